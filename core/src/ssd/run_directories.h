// RunDirectories: where one log keeps its segments. Below each of its paths it has a directory
//
//   mxrec-ssd-<pid>-<run id>-<table>/
//
// that it holds by a lock. The system releases the locks of a process that ends, however it ends;
// so whoever gets the lock of such a directory knows that nobody uses it. Open removes those; one
// that it may not lock or remove is no reason not to start.
//
// Thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "env/env.h"
#include "util/mutex.h"

namespace mxrec::ssd {

struct SsdPath {
  std::string directory;   // there already, writable
  uint64_t max_bytes = 0;  // that its segments may take; 0: what the file system has
};

class RunDirectories {
 public:
  // An error leaves no directory behind.
  static Result<std::unique_ptr<RunDirectories>> Open(Env* env, const std::string& table,
                                                      std::vector<SsdPath> paths);
  ~RunDirectories();  // closes without a report

  struct File {
    uint32_t path = 0;
    std::string name;  // with its directory
    std::shared_ptr<DirectFile> file;
  };
  // A file with room for `bytes`, on the first path that has that much left. kResourceExhausted
  // says of every path why it has not.
  Result<File> CreateSegment(uint64_t segment, uint64_t bytes);
  // The file is shorter now.
  void Shrunk(uint32_t path, uint64_t from, uint64_t to);
  // An error when the file is not there any more under its name.
  Status StillThere(const std::string& name) const;
  // After an error the file still counts against its path.
  Status DeleteSegment(uint32_t path, const std::string& name, uint64_t bytes);

  // Deletes all directories. Idempotent.
  Status Close();

  uint64_t run() const { return run_; }
  uint64_t held_bytes(uint32_t path) const;
  bool direct(uint32_t path) const { return direct_[path]; }
  const std::vector<SsdPath>& paths() const { return paths_; }
  // Leftovers of ended runs that Open removed.
  const std::vector<std::string>& removed() const { return removed_; }
  // Those that it could not remove, another user's say, and why.
  const std::vector<std::string>& kept() const { return kept_; }

 private:
  RunDirectories(Env* env, std::string table, std::vector<SsdPath> paths)
      : env_(env), table_(std::move(table)), paths_(std::move(paths)), held_(paths_.size()) {}
  Status RemoveLeftovers(const std::string& directory);
  Status Take(const std::string& directory);
  Status Probe();

  Env* const env_;
  const std::string table_;
  const std::vector<SsdPath> paths_;
  uint64_t run_ = 0;
  std::vector<std::string> directories_;
  std::vector<std::unique_ptr<PathLock>> locks_;
  std::vector<std::string> removed_;
  std::vector<std::string> kept_;
  std::vector<bool> direct_;
  mutable Mutex mu_;
  std::vector<uint64_t> held_ MXREC_GUARDED_BY(mu_);  // by path
};

}  // namespace mxrec::ssd
