// FaultEnv: passes every operation to another Env and makes the n-th one fail. Operations are
// counted from 0: those that change the file system apart from those that read it.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "mxrec/env.h"

namespace mxrec::testing {

class FaultEnv : public Env {
 public:
  enum class Mode {
    kOnce,        // the disk recovers
    kFromThenOn,  // the process is as good as dead: what is on the disk now stays
  };

  explicit FaultEnv(Env* base = Env::Default()) : base_(base) {}

  // Counting starts again; n < 0: nothing fails.
  void FailMutation(int64_t n, Mode mode = Mode::kOnce) { mutation_.Arm(n, mode); }
  void FailRead(int64_t n, Mode mode = Mode::kOnce) { read_.Arm(n, mode); }
  int64_t mutations() const { return mutation_.count; }
  int64_t reads() const { return read_.count; }

  Result<std::unique_ptr<WritableFile>> NewWritableFile(const std::string& path) override {
    if (mutation_.Fails()) return Refused("create", path);
    auto file = base_->NewWritableFile(path);
    if (!file.ok()) return file.status();
    return std::unique_ptr<WritableFile>(
        std::make_unique<Writable>(this, path, std::move(file).value()));
  }
  Result<std::unique_ptr<ReadableFile>> NewReadableFile(const std::string& path) override {
    if (read_.Fails()) return Refused("open", path);
    auto file = base_->NewReadableFile(path);
    if (!file.ok()) return file.status();
    return std::unique_ptr<ReadableFile>(
        std::make_unique<Readable>(this, path, std::move(file).value()));
  }
  Result<bool> Exists(const std::string& path) override {
    if (read_.Fails()) return Refused("look up", path);
    return base_->Exists(path);
  }
  Result<std::vector<std::string>> List(const std::string& dir) override {
    if (read_.Fails()) return Refused("list", dir);
    return base_->List(dir);
  }
  Status CreateDir(const std::string& dir) override {
    return mutation_.Fails() ? Refused("create directory", dir) : base_->CreateDir(dir);
  }
  Status Rename(const std::string& from, const std::string& to) override {
    return mutation_.Fails() ? Refused("rename", from) : base_->Rename(from, to);
  }
  Status DeleteFile(const std::string& path) override {
    return mutation_.Fails() ? Refused("delete", path) : base_->DeleteFile(path);
  }
  Status DeleteTree(const std::string& dir) override {
    return mutation_.Fails() ? Refused("delete", dir) : base_->DeleteTree(dir);
  }
  Status SyncDir(const std::string& dir) override {
    return mutation_.Fails() ? Refused("sync directory", dir) : base_->SyncDir(dir);
  }
  uint64_t NowMicros() override { return base_->NowMicros(); }

 private:
  struct Counter {
    std::atomic<int64_t> count{0};
    std::atomic<int64_t> target{-1};
    std::atomic<Mode> mode{Mode::kOnce};

    void Arm(int64_t n, Mode m) {
      count = 0;
      target = n;
      mode = m;
    }
    bool Fails() {
      const int64_t n = count++;
      return target >= 0 && (n == target || (n > target && mode == Mode::kFromThenOn));
    }
  };

  static Status Refused(const char* action, const std::string& path) {
    return IoError(std::string("cannot ") + action + " " + path + ": injected fault");
  }

  class Writable : public WritableFile {
   public:
    Writable(FaultEnv* env, std::string path, std::unique_ptr<WritableFile> base)
        : env_(env), path_(std::move(path)), base_(std::move(base)) {}
    Status Append(const void* data, size_t bytes) override {
      if (!env_->mutation_.Fails()) return base_->Append(data, bytes);
      const Status torn = base_->Append(data, bytes / 2);
      return torn.ok() ? Refused("write to", path_) : torn;
    }
    Status Sync() override {
      return env_->mutation_.Fails() ? Refused("sync", path_) : base_->Sync();
    }
    Status Close() override {
      const Status closed = base_->Close();
      return env_->mutation_.Fails() ? Refused("close", path_) : closed;
    }

   private:
    FaultEnv* const env_;
    const std::string path_;
    const std::unique_ptr<WritableFile> base_;
  };

  class Readable : public ReadableFile {
   public:
    Readable(FaultEnv* env, std::string path, std::unique_ptr<ReadableFile> base)
        : env_(env), path_(std::move(path)), base_(std::move(base)) {}
    Result<size_t> Read(uint64_t offset, size_t bytes, void* out) const override {
      if (env_->read_.Fails()) return Refused("read", path_);
      return base_->Read(offset, bytes, out);
    }
    Result<uint64_t> Size() const override {
      if (env_->read_.Fails()) return Refused("measure", path_);
      return base_->Size();
    }

   private:
    FaultEnv* const env_;
    const std::string path_;
    const std::unique_ptr<ReadableFile> base_;
  };

  Env* const base_;
  Counter mutation_;
  Counter read_;
};

}  // namespace mxrec::testing
