#include "env/posix_direct.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "env/posix_error.h"

namespace mxrec {
namespace {

constexpr size_t kSectorBytes = 512;

class PosixPathLock : public PathLock {
 public:
  explicit PosixPathLock(int fd) : fd_(fd) {}
  ~PosixPathLock() override { ::close(fd_); }

 private:
  const int fd_;
};

// A log keeps hundreds of files open, more than the limit that processes have unless they ask for
// more; what they may ask for is a thousand times as much. False: there is no more.
bool RaiseFileLimit() {
  rlimit limit;
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= limit.rlim_max) return false;
  limit.rlim_cur = limit.rlim_max;
  return ::setrlimit(RLIMIT_NOFILE, &limit) == 0;
}

int OpenFile(const std::string& path, int flags) {
  const int fd = ::open(path.c_str(), flags | O_CLOEXEC, 0666);
  if (fd >= 0 || errno != EMFILE || !RaiseFileLimit()) return fd;
  return ::open(path.c_str(), flags | O_CLOEXEC, 0666);
}

}  // namespace

Result<std::unique_ptr<DirectFile>> PosixDirectFile::OpenWith(const std::string& path, int flags,
                                                              const char* action) {
  bool direct = true;
  int fd = OpenFile(path, flags | O_RDWR | O_DIRECT);
  if (fd < 0 && errno == EINVAL) {  // what file systems without direct I/O say
    direct = false;
    // A file system may have created the file before it refused.
    fd = OpenFile(path, (flags & ~O_EXCL) | O_RDWR);
  }
  if (fd < 0 && errno == EEXIST) {
    return AlreadyExists(std::string("cannot ") + action + " " + path + ": the file exists");
  }
  if (fd < 0) return FromErrno(action, path, errno);
  return std::unique_ptr<DirectFile>(new PosixDirectFile(path, fd, direct));
}

Result<std::unique_ptr<DirectFile>> PosixDirectFile::Create(const std::string& path) {
  return OpenWith(path, O_CREAT | O_EXCL, "create");
}

Result<std::unique_ptr<DirectFile>> PosixDirectFile::Open(const std::string& path) {
  return OpenWith(path, 0, "open");
}

PosixDirectFile::~PosixDirectFile() { ::close(fd_); }

Status PosixDirectFile::Allocate(uint64_t bytes) {
  int error = EINTR;
  while (error == EINTR) {
    error = ::fallocate(fd_, 0, 0, static_cast<off_t>(bytes)) == 0 ? 0 : errno;
  }
  if (error == EOPNOTSUPP || error == ENOSYS) {
    // glibc then writes a byte into every block, which direct I/O does not allow.
    const int fd = OpenFile(path_, O_RDWR);
    if (fd < 0) return FromErrno("allocate", path_, errno);
    error = EINTR;
    while (error == EINTR) error = ::posix_fallocate(fd, 0, static_cast<off_t>(bytes));
    if (::close(fd) != 0 && error == 0) error = errno;
  }
  if (error != 0) return FromErrno("allocate", path_, error);
  return {};
}

Status PosixDirectFile::Write(uint64_t offset, const void* data, size_t bytes) {
  const char* from = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t n = ::pwrite(fd_, from, bytes, static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return FromErrno("write to", path_, errno);
    from += n;
    offset += static_cast<uint64_t>(n);
    bytes -= static_cast<size_t>(n);
  }
  return {};
}

Status PosixDirectFile::Truncate(uint64_t bytes) {
  if (::ftruncate(fd_, static_cast<off_t>(bytes)) != 0) return FromErrno("truncate", path_, errno);
  return {};
}

Status PosixDirectFile::Sync() {
  if (::fsync(fd_) != 0) return FromErrno("sync", path_, errno);
  return {};
}

Result<uint64_t> PosixDirectFile::Size() const {
  struct stat info;
  if (::fstat(fd_, &info) != 0) return FromErrno("measure", path_, errno);
  return static_cast<uint64_t>(info.st_size);
}

void PosixDirectFile::Finish(BlockRead* read, size_t done) const {
  char* to = static_cast<char*>(read->out);
  while (done < read->bytes) {
    // Direct reads stop within a sector only at the end of the file, and cannot go on from there.
    const bool ended = direct_ && done % kSectorBytes != 0;
    const ssize_t n = ended ? 0
                            : ::pread(fd_, to + done, read->bytes - done,
                                      static_cast<off_t>(read->offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      read->status = FromErrno("read", path_, errno);
      return;
    }
    if (n == 0) {
      read->status = DataLoss("cannot read " + path_ + ": it ends at byte " +
                              std::to_string(read->offset + done) + ", " +
                              std::to_string(read->offset + read->bytes) + " or more are expected");
      return;
    }
    done += static_cast<size_t>(n);
  }
}

Result<std::unique_ptr<PathLock>> TryLockPath(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return FromErrno("lock", path, errno);
  auto lock = std::make_unique<PosixPathLock>(fd);
  int result = -1;
  do result = ::flock(fd, LOCK_EX | LOCK_NB);
  while (result != 0 && errno == EINTR);
  if (result != 0 && errno == EWOULDBLOCK) return std::unique_ptr<PathLock>();
  if (result != 0) return FromErrno("lock", path, errno);
  // Whoever held it before may have deleted it meanwhile: then the lock is on nothing.
  struct stat held, named;
  if (::fstat(fd, &held) != 0) return FromErrno("lock", path, errno);
  if (::stat(path.c_str(), &named) != 0) return FromErrno("lock", path, errno);
  if (held.st_ino != named.st_ino || held.st_dev != named.st_dev) {
    return FromErrno("lock", path, ENOENT);
  }
  return std::unique_ptr<PathLock>(std::move(lock));
}

}  // namespace mxrec
