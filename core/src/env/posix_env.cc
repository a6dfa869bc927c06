#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <system_error>
#include <utility>

#include "env/env.h"
#include "env/posix_direct.h"
#include "env/posix_error.h"
#include "env/posix_files.h"
#include "env/slow_reader.h"

namespace mxrec {
namespace {

class PosixEnv : public Env {
 public:
  Result<std::unique_ptr<WritableFile>> NewWritableFile(const std::string& path) override {
    return PosixWritableFile::Create(path);
  }
  Result<std::unique_ptr<ReadableFile>> NewReadableFile(const std::string& path) override {
    return PosixReadableFile::Open(path);
  }

  Result<bool> Exists(const std::string& path) override {
    struct stat info;
    if (::stat(path.c_str(), &info) == 0) return true;
    if (errno == ENOENT || errno == ENOTDIR) return false;
    return FromErrno("look up", path, errno);
  }

  Result<std::vector<std::string>> List(const std::string& dir) override {
    DIR* stream = ::opendir(dir.c_str());
    if (stream == nullptr) return FromErrno("list", dir, errno);
    std::vector<std::string> names;
    errno = 0;
    while (const dirent* entry = ::readdir(stream)) {
      const std::string name = entry->d_name;
      if (name != "." && name != "..") names.push_back(name);
      errno = 0;
    }
    const int error = errno;
    ::closedir(stream);
    if (error != 0) return FromErrno("list", dir, error);
    std::sort(names.begin(), names.end());
    return names;
  }

  Status CreateDir(const std::string& dir) override {
    if (::mkdir(dir.c_str(), 0777) == 0) return {};
    const int error = errno;
    struct stat info;
    if (error == EEXIST && ::stat(dir.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) return {};
    return FromErrno("create directory", dir, error);
  }

  Status Rename(const std::string& from, const std::string& to) override {
    if (::rename(from.c_str(), to.c_str()) == 0) return {};
    return FromErrno("rename", from + " to " + to, errno);
  }

  Result<bool> Link(const std::string& from, const std::string& to) override {
    if (::link(from.c_str(), to.c_str()) == 0) return true;
    const int error = errno;
    if (error == EXDEV || error == EPERM || error == EMLINK || error == EOPNOTSUPP ||
        error == ENOSYS) {
      return false;
    }
    return FromErrno("link", from + " to " + to, error);
  }

  Status DeleteFile(const std::string& path) override {
    if (::unlink(path.c_str()) == 0) return {};
    return FromErrno("delete", path, errno);
  }

  Status DeleteTree(const std::string& dir) override {
    std::error_code error;
    std::filesystem::remove_all(dir, error);  // removes links, never what they point to
    if (error) return FromErrno("delete", dir, error.value());
    return {};
  }

  Status SyncDir(const std::string& dir) override {
    const int fd = ::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return FromErrno("open directory", dir, errno);
    const int result = ::fsync(fd);
    const int error = errno;
    ::close(fd);
    // EINVAL: this file system orders directory changes itself and offers no sync.
    if (result != 0 && error != EINVAL) return FromErrno("sync directory", dir, error);
    return {};
  }

  uint64_t NowMicros() override {
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    return static_cast<uint64_t>(
        std::chrono::duration_cast<std::chrono::microseconds>(now).count());
  }

  Result<std::unique_ptr<DirectFile>> CreateDirectFile(const std::string& path) override {
    return PosixDirectFile::Create(path);
  }
  Result<std::unique_ptr<DirectFile>> OpenDirectFile(const std::string& path) override {
    return PosixDirectFile::Open(path);
  }
  Result<std::unique_ptr<BatchReader>> NewBatchReader(ReadMethod method, uint32_t depth) override {
    auto reader = method == ReadMethod::kUring ? NewUringReader(depth) : NewPreadReader(depth);
    if (read_delay_.count() == 0 || !reader.ok()) return reader;
    return std::unique_ptr<BatchReader>(
        std::make_unique<SlowReader>(std::move(reader).value(), depth, read_delay_));
  }
  Result<std::unique_ptr<PathLock>> TryLock(const std::string& path) override {
    return TryLockPath(path);
  }

 private:
  // Of what the variable holds, the number at its start.
  static std::chrono::microseconds ReadDelay() {
    const char* const text = std::getenv("MXREC_SSD_READ_DELAY_MICROS");
    return std::chrono::microseconds(text == nullptr ? 0 : std::strtoul(text, nullptr, 10));
  }
  const std::chrono::microseconds read_delay_ = ReadDelay();
};

}  // namespace

Env* Env::Default() {
  static PosixEnv* const env = new PosixEnv;  // never destroyed: threads may outlive statics
  return env;
}

}  // namespace mxrec
