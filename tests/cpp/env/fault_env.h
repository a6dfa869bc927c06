// FaultEnv: passes every operation to another Env and makes the n-th one fail. Operations are
// counted from 0: those that change the file system apart from those that read it.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "env/env.h"

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
  // What failing operations report.
  void FailWith(StatusCode code) { code_ = code; }
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
  // Whether there are links; without them nothing is counted.
  void AllowLinks(bool allow) { links_ = allow; }
  Result<bool> Link(const std::string& from, const std::string& to) override {
    if (!links_) return false;
    if (mutation_.Fails()) return Refused("link", from);
    return base_->Link(from, to);
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

  Result<std::unique_ptr<DirectFile>> CreateDirectFile(const std::string& path) override {
    if (mutation_.Fails()) return Refused("create", path);
    return Wrap(path, base_->CreateDirectFile(path));
  }
  Result<std::unique_ptr<DirectFile>> OpenDirectFile(const std::string& path) override {
    if (read_.Fails()) return Refused("open", path);
    return Wrap(path, base_->OpenDirectFile(path));
  }
  Result<std::unique_ptr<BatchReader>> NewBatchReader(ReadMethod method, uint32_t depth) override {
    auto reader = base_->NewBatchReader(method, depth);
    if (!reader.ok()) return reader.status();
    return std::unique_ptr<BatchReader>(std::make_unique<Batches>(this, std::move(reader).value()));
  }
  Result<std::unique_ptr<PathLock>> TryLock(const std::string& path) override {
    if (read_.Fails()) return Refused("lock", path);
    return base_->TryLock(path);
  }

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

  Status Refused(const char* action, const std::string& path) const {
    return {code_, std::string("cannot ") + action + " " + path + ": injected fault"};
  }

  class Writable : public WritableFile {
   public:
    Writable(FaultEnv* env, std::string path, std::unique_ptr<WritableFile> base)
        : env_(env), path_(std::move(path)), base_(std::move(base)) {}
    Status Append(const void* data, size_t bytes) override {
      if (!env_->mutation_.Fails()) return base_->Append(data, bytes);
      const Status torn = base_->Append(data, bytes / 2);
      return torn.ok() ? env_->Refused("write to", path_) : torn;
    }
    Status Sync() override {
      return env_->mutation_.Fails() ? env_->Refused("sync", path_) : base_->Sync();
    }
    Status Close() override {
      const Status closed = base_->Close();
      return env_->mutation_.Fails() ? env_->Refused("close", path_) : closed;
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
      if (env_->read_.Fails()) return env_->Refused("read", path_);
      return base_->Read(offset, bytes, out);
    }
    Result<uint64_t> Size() const override {
      if (env_->read_.Fails()) return env_->Refused("measure", path_);
      return base_->Size();
    }

   private:
    FaultEnv* const env_;
    const std::string path_;
    const std::unique_ptr<ReadableFile> base_;
  };

  class Direct : public DirectFile {
   public:
    Direct(FaultEnv* env, std::string path, std::unique_ptr<DirectFile> base)
        : env_(env), path_(std::move(path)), base_(std::move(base)) {}
    Status Allocate(uint64_t bytes) override {
      return env_->mutation_.Fails() ? env_->Refused("allocate", path_) : base_->Allocate(bytes);
    }
    Status Write(uint64_t offset, const void* data, size_t bytes) override {
      if (!env_->mutation_.Fails()) return base_->Write(offset, data, bytes);
      const Status torn = base_->Write(offset, data, bytes / 2 / kBlockBytes * kBlockBytes);
      return torn.ok() ? env_->Refused("write to", path_) : torn;
    }
    Status Truncate(uint64_t bytes) override {
      return env_->mutation_.Fails() ? env_->Refused("truncate", path_) : base_->Truncate(bytes);
    }
    Status Sync() override {
      return env_->mutation_.Fails() ? env_->Refused("sync", path_) : base_->Sync();
    }
    Result<uint64_t> Size() const override {
      if (env_->read_.Fails()) return env_->Refused("measure", path_);
      return base_->Size();
    }
    bool direct() const override { return base_->direct(); }
    const DirectFile* base() const { return base_.get(); }
    const std::string& path() const { return path_; }

   private:
    FaultEnv* const env_;
    const std::string path_;
    const std::unique_ptr<DirectFile> base_;
  };

  // Each read of a batch counts; one that fails has still filled its memory, with wrong bytes.
  class Batches : public BatchReader {
   public:
    Batches(FaultEnv* env, std::unique_ptr<BatchReader> base) : env_(env), base_(std::move(base)) {}
    void Read(std::span<BlockRead> reads, const Call& start, const Call& done) override {
      std::vector<BlockRead> inner(reads.begin(), reads.end());
      for (BlockRead& read : inner) read.file = static_cast<const Direct*>(read.file)->base();
      const auto outer_of = [&](const BlockRead& read) -> BlockRead& {
        return reads[static_cast<size_t>(&read - inner.data())];
      };
      const auto started = [&](BlockRead& read) {
        start(outer_of(read));
        read.out = outer_of(read).out;
      };
      base_->Read(inner, started, [&](BlockRead& read) {
        BlockRead& outer = outer_of(read);
        outer.status = read.status;
        if (env_->read_.Fails()) {
          std::memset(outer.out, 0xA5, outer.bytes);
          outer.status = env_->Refused("read", static_cast<const Direct*>(outer.file)->path());
        }
        done(outer);
      });
    }
    ReadMethod method() const override { return base_->method(); }

   private:
    FaultEnv* const env_;
    const std::unique_ptr<BatchReader> base_;
  };

  Result<std::unique_ptr<DirectFile>> Wrap(const std::string& path,
                                           Result<std::unique_ptr<DirectFile>> file) {
    if (!file.ok()) return file.status();
    return std::unique_ptr<DirectFile>(
        std::make_unique<Direct>(this, path, std::move(file).value()));
  }

  Env* const base_;
  std::atomic<StatusCode> code_{StatusCode::kIoError};
  std::atomic<bool> links_{true};
  Counter mutation_;
  Counter read_;
};

}  // namespace mxrec::testing
