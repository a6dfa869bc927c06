#include "env/posix_files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <utility>
#include <vector>

#include "env/posix_error.h"

namespace mxrec {
namespace {

constexpr size_t kBufferBytes = size_t{1} << 20;   // of a direct write
constexpr size_t kLeastDirect = size_t{64} << 10;  // bytes of a read

}  // namespace

// --- PosixWritableFile --------------------------------------------------------------------------

PosixWritableFile::PosixWritableFile(std::string path, int fd)
    : path_(std::move(path)), fd_(fd), buffer_(kBufferBytes, false) {}

Result<std::unique_ptr<WritableFile>> PosixWritableFile::Create(const std::string& path) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd < 0) return FromErrno("create", path, errno);
  try {
    return std::unique_ptr<WritableFile>(new PosixWritableFile(path, fd));
  } catch (...) {
    ::close(fd);
    throw;
  }
}

PosixWritableFile::~PosixWritableFile() {
  if (fd_ >= 0) ::close(fd_);
}

Status PosixWritableFile::Append(const void* data, size_t bytes) {
  if (fd_ < 0) return FromErrno("write to", path_, EBADF);
  if (!failed_.ok()) return failed_;
  const char* from = static_cast<const char*>(data);
  while (bytes > 0) {
    if (filled_ == kBufferBytes) MXREC_RETURN_IF_ERROR(Flush());
    const size_t n = std::min(bytes, kBufferBytes - filled_);
    std::memcpy(buffer_.get() + filled_, from, n);
    filled_ += n;
    from += n;
    bytes -= n;
  }
  return filled_ == kBufferBytes ? Flush() : Status();
}

bool PosixWritableFile::SetDirect(bool on) const {
  const int flags = ::fcntl(fd_, F_GETFL);
  return flags >= 0 && ::fcntl(fd_, F_SETFL, on ? flags | O_DIRECT : flags & ~O_DIRECT) == 0;
}

Status PosixWritableFile::Flush() {
  if (mode_ == Mode::kUndecided) mode_ = SetDirect(true) ? Mode::kDirect : Mode::kCached;
  MXREC_RETURN_IF_ERROR(WriteBuffer(filled_));
  filled_ = 0;
  if (mode_ == Mode::kCached) StartWriting();
  return {};
}

Status PosixWritableFile::FlushTail() {
  if (!failed_.ok() || filled_ == 0) return failed_;
  const size_t whole = mode_ == Mode::kDirect ? filled_ / kBlockBytes * kBlockBytes : 0;
  if (whole > 0) {
    MXREC_RETURN_IF_ERROR(WriteBuffer(whole));
    filled_ -= whole;
    std::memmove(buffer_.get(), buffer_.get() + whole, filled_);
  }
  if (filled_ == 0) return {};
  if (mode_ == Mode::kDirect && !SetDirect(false)) {
    return failed_ = FromErrno("write to", path_, errno);
  }
  mode_ = Mode::kCached;
  MXREC_RETURN_IF_ERROR(WriteBuffer(filled_));
  filled_ = 0;
  return {};
}

// The first `bytes` of the buffer.
Status PosixWritableFile::WriteBuffer(size_t bytes) {
  for (size_t done = 0; done < bytes;) {
    const ssize_t n =
        ::pwrite(fd_, buffer_.get() + done, bytes - done, written_ + static_cast<off_t>(done));
    if (n < 0 && errno == EINTR) continue;
    // File systems that have no direct I/O after all, or not from the byte where a write was cut.
    if (n < 0 && errno == EINVAL && mode_ == Mode::kDirect && SetDirect(false)) {
      mode_ = Mode::kCached;
      continue;
    }
    if (n < 0) return failed_ = FromErrno("write to", path_, errno);
    done += static_cast<size_t>(n);
  }
  written_ += static_cast<off_t>(bytes);
  return {};
}

// Has the system begin to write what has come together, so that the disk works while more comes
// and a sync need not wait for all of it. No more than a hint: errors are those of Sync.
void PosixWritableFile::StartWriting() {
  constexpr off_t kAtOnce = off_t{8} << 20;
  if (written_ - started_ < kAtOnce) return;
  ::sync_file_range(fd_, started_, written_ - started_, SYNC_FILE_RANGE_WRITE);
  started_ = written_;
}

Status PosixWritableFile::Sync() {
  if (fd_ < 0) return FromErrno("sync", path_, EBADF);
  MXREC_RETURN_IF_ERROR(FlushTail());
  // A second fsync would say that all is well, though the first one has dropped what it could not
  // write.
  if (::fsync(fd_) != 0) return failed_ = FromErrno("sync", path_, errno);
  return {};
}

Status PosixWritableFile::Close() {
  if (fd_ < 0) return {};
  Status flushed = FlushTail();
  // Even a failed close has released the descriptor on Linux: it must not be tried again.
  const int result = ::close(fd_);
  const int error = errno;
  fd_ = -1;
  if (flushed.ok() && result != 0 && error != EINTR) return FromErrno("close", path_, error);
  return flushed;
}

// --- PosixReadableFile --------------------------------------------------------------------------

Result<std::unique_ptr<ReadableFile>> PosixReadableFile::Open(const std::string& path) {
  // O_NONBLOCK: opening a pipe must fail below instead of waiting for its writer.
  const int fd = ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return FromErrno("open", path, errno);
  int direct_fd = -1;
  try {
    Status status;
    struct stat info;
    if (::fstat(fd, &info) != 0) {
      status = FromErrno("open", path, errno);
    } else if (!S_ISREG(info.st_mode)) {
      status = IoError("cannot open " + path + ": not a regular file");
    }
    if (status.ok()) {
      if (static_cast<uint64_t>(info.st_size) >= kLeastDirect) {
        // The same file, whatever has got its name meanwhile.
        const std::string same = "/proc/self/fd/" + std::to_string(fd);
        direct_fd = ::open(same.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC);
      }
      return std::unique_ptr<ReadableFile>(new PosixReadableFile(path, fd, direct_fd));
    }
    ::close(fd);
    return status;
  } catch (const std::bad_alloc&) {
    ::close(fd);
    if (direct_fd >= 0) ::close(direct_fd);
    throw;
  }
}

PosixReadableFile::~PosixReadableFile() {
  ::close(fd_);
  if (direct_fd_ >= 0) ::close(direct_fd_);
}

Result<size_t> PosixReadableFile::Read(uint64_t offset, size_t bytes, void* out) const {
  char* to = static_cast<char*>(out);
  size_t done = ReadDirect(offset, bytes, to);
  while (done < bytes) {
    const ssize_t n = ::pread(fd_, to + done, bytes - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return FromErrno("read", path_, errno);
    if (n == 0) break;
    done += static_cast<size_t>(n);
  }
  return done;
}

// All of it, as far as the file goes. (A read with RWF_NOWAIT would tell as well, but has the
// system begin to read what is not there.) Linux says yes of every file that the user may not
// write.
bool PosixReadableFile::IsCached(uint64_t offset, size_t bytes) const {
  static const auto page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  const uint64_t begin = offset / page * page;
  const auto size = Size();
  if (!size.ok() || size.value() <= offset) return false;
  const size_t length = std::min(offset + bytes, size.value()) - begin;
  void* const at = ::mmap(nullptr, length, PROT_READ, MAP_SHARED, fd_, static_cast<off_t>(begin));
  if (at == MAP_FAILED) return false;
  std::vector<unsigned char> resident((length + page - 1) / page);
  const bool known = ::mincore(at, length, resident.data()) == 0;
  ::munmap(at, length);
  return known && std::ranges::all_of(resident, [](unsigned char r) { return (r & 1) != 0; });
}

// How many bytes it has read; the others are left to the page cache, with whatever error there is.
size_t PosixReadableFile::ReadDirect(uint64_t offset, size_t bytes, char* to) const {
  const bool aligned =
      ((offset | bytes | reinterpret_cast<uintptr_t>(to)) & (kBlockBytes - 1)) == 0;
  if (direct_fd_ < 0 || !aligned || bytes < kLeastDirect) return 0;
  if (IsCached(offset, bytes)) return 0;
  size_t done = 0;
  while (done < bytes) {
    const ssize_t n =
        ::pread(direct_fd_, to + done, bytes - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    done += static_cast<size_t>(n);
    if (done % kBlockBytes != 0) break;  // the end of the file
  }
  return done;
}

Result<uint64_t> PosixReadableFile::Size() const {
  struct stat info;
  if (::fstat(fd_, &info) != 0) return FromErrno("measure", path_, errno);
  return static_cast<uint64_t>(info.st_size);
}

}  // namespace mxrec
