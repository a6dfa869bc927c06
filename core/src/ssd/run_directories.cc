#include "ssd/run_directories.h"

#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cinttypes>
#include <cstdio>
#include <random>

namespace mxrec::ssd {
namespace {

constexpr char kPrefix[] = "mxrec-ssd-";
constexpr size_t kMaxTableInName = 100;
constexpr uint64_t kAttempts = 8;

std::string DirectoryName(uint64_t run, const std::string& table) {
  char numbers[48];
  std::snprintf(numbers, sizeof(numbers), "%ld-%016" PRIx64 "-", static_cast<long>(::getpid()),
                run);
  std::string name = table.substr(0, kMaxTableInName);
  for (char& c : name) {
    const auto u = static_cast<unsigned char>(c);
    if (std::isalnum(u) == 0 && c != '_' && c != '.' && c != '-') c = '_';
  }
  return kPrefix + (numbers + name);
}

// <prefix><digits>-<16 hexadecimal digits>-...
bool IsDirectoryName(const std::string& name) {
  if (name.rfind(kPrefix, 0) != 0) return false;
  size_t at = sizeof(kPrefix) - 1;
  const size_t digits = at;
  while (at < name.size() && std::isdigit(static_cast<unsigned char>(name[at])) != 0) ++at;
  if (at == digits || at + 18 > name.size() || name[at] != '-' || name[at + 17] != '-')
    return false;
  return std::all_of(name.begin() + static_cast<std::ptrdiff_t>(at) + 1,
                     name.begin() + static_cast<std::ptrdiff_t>(at) + 17,
                     [](char c) { return std::isxdigit(static_cast<unsigned char>(c)) != 0; });
}

uint64_t RandomRun() {
  std::random_device device;
  return (static_cast<uint64_t>(device()) << 32) | device();
}

}  // namespace

Result<std::unique_ptr<RunDirectories>> RunDirectories::Open(Env* env, const std::string& table,
                                                             std::vector<SsdPath> paths) {
  auto self = std::unique_ptr<RunDirectories>(new RunDirectories(env, table, std::move(paths)));
  self->run_ = RandomRun();
  for (const SsdPath& path : self->paths_) {
    Status status = self->RemoveLeftovers(path.directory);
    if (status.ok()) status = self->Take(path.directory);
    if (status.ok()) status = self->Probe();
    if (status.ok()) continue;
    // What the caller hears is why it cannot go on; a directory that stays for want of the same
    // disk is a leftover for the next run.
    (void)self->Close();
    return Status(status.code(),
                  "table '" + table + "': SSD path " + path.directory + ": " + status.message());
  }
  return self;
}

RunDirectories::~RunDirectories() { (void)Close(); }

Status RunDirectories::RemoveLeftovers(const std::string& directory) {
  auto names = env_->List(directory);
  if (!names.ok()) return names.status();
  for (const std::string& name : names.value()) {
    if (!IsDirectoryName(name)) continue;
    const std::string leftover = directory + "/" + name;
    auto lock = env_->TryLock(leftover);
    if (!lock.ok() && lock.status().code() == StatusCode::kNotFound) continue;  // just removed
    if (lock.ok() && lock.value() == nullptr) continue;                         // in use
    const Status removed = lock.ok() ? env_->DeleteTree(leftover) : lock.status();
    if (removed.ok()) {
      removed_.push_back(leftover);
    } else {
      kept_.push_back(leftover + ": " + removed.message());
    }
  }
  return {};
}

Status RunDirectories::Take(const std::string& directory) {
  // Between making a directory and locking it, another run may take it for a leftover.
  for (uint64_t attempt = 0; attempt < kAttempts; ++attempt) {
    const uint64_t number = run_ + directories_.size() + attempt * paths_.size();
    const std::string path = directory + "/" + DirectoryName(number, table_);
    MXREC_RETURN_IF_ERROR(env_->CreateDir(path));
    auto lock = env_->TryLock(path);
    if (lock.ok() && lock.value() != nullptr) {
      directories_.push_back(path);
      locks_.push_back(std::move(lock).value());
      return {};
    }
    if (!lock.ok() && lock.status().code() != StatusCode::kNotFound) {
      const Status removed = env_->DeleteTree(path);
      if (removed.ok()) return lock.status();
      return {lock.status().code(), lock.status().message() + "; and " + removed.message()};
    }
  }
  return IoError("its new directory was deleted " + std::to_string(kAttempts) +
                 " times by others; start again");
}

// Whether the directory taken last can be written, and how.
Status RunDirectories::Probe() {
  const std::string path = directories_.back() + "/probe";
  auto file = env_->CreateDirectFile(path);
  if (!file.ok()) return file.status();
  direct_.push_back(file.value()->direct());
  return env_->DeleteFile(path);
}

Result<RunDirectories::File> RunDirectories::CreateSegment(uint64_t segment, uint64_t bytes) {
  char name[40];
  std::snprintf(name, sizeof(name), "/segment-%08" PRIu64, segment);
  std::string reasons;
  for (uint32_t i = 0; i < paths_.size(); ++i) {
    {
      const MutexLock lock(mu_);
      if (paths_[i].max_bytes > 0 && held_[i] + bytes > paths_[i].max_bytes) {
        reasons += "; " + paths_[i].directory + ": a segment of " + std::to_string(bytes) +
                   " bytes on top of " + std::to_string(held_[i]) + " exceeds its limit of " +
                   std::to_string(paths_[i].max_bytes);
        continue;
      }
      held_[i] += bytes;
    }
    const std::string path = directories_[i] + name;
    auto created = env_->CreateDirectFile(path);
    Status status = created.status();
    if (status.ok()) {
      status = created.value()->Allocate(bytes);
      if (status.ok()) return File{i, path, std::move(created).value()};
      const Status deleted = env_->DeleteFile(path);
      if (!deleted.ok()) status = {status.code(), status.message() + "; and " + deleted.message()};
    }
    {
      const MutexLock lock(mu_);
      held_[i] -= bytes;
    }
    // An error that is not about room is not answered by going elsewhere: the disk needs a person.
    if (status.code() != StatusCode::kResourceExhausted) {
      return Status(status.code(), "table '" + table_ + "': SSD segment " +
                                       std::to_string(segment) + ": " + status.message());
    }
    reasons += "; " + status.message();
  }
  return ResourceExhausted("table '" + table_ + "': no SSD path has room for segment " +
                           std::to_string(segment) + reasons +
                           ". Free space there or add a path to ssd_paths (ssd_data_path)");
}

void RunDirectories::Shrunk(uint32_t path, uint64_t from, uint64_t to) {
  const MutexLock lock(mu_);
  held_[path] -= from - to;
}

Status RunDirectories::StillThere(const std::string& name) const {
  const auto there = env_->Exists(name);
  if (!there.ok()) return there.status();
  if (there.value()) return {};
  return NotFound(name +
                  " is gone: another program has deleted it. Its records are still read, through "
                  "the open file, and move to other segments; keep other programs away from "
                  "ssd_paths (ssd_data_path)");
}

Status RunDirectories::DeleteSegment(uint32_t path, const std::string& name, uint64_t bytes) {
  const Status deleted = env_->DeleteFile(name);
  // What somebody else has deleted is gone, too.
  if (!deleted.ok() && deleted.code() != StatusCode::kNotFound) return deleted;
  const MutexLock lock(mu_);
  held_[path] -= bytes;
  return {};
}

Status RunDirectories::Close() {
  Status first;
  for (const std::string& directory : directories_) {
    const Status deleted = env_->DeleteTree(directory);
    if (first.ok()) first = deleted;
  }
  directories_.clear();
  locks_.clear();
  return first;
}

uint64_t RunDirectories::held_bytes(uint32_t path) const {
  const MutexLock lock(mu_);
  return held_[path];
}

}  // namespace mxrec::ssd
