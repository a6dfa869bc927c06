// Which lock guards what, in words that clang checks (-Wthread-safety; the CMake preset
// thread-safety makes what it finds an error). Other compilers see nothing.
//
// The analysis looks at one function at a time and believes the annotations of those that it calls.
// It does not follow a lock into a lambda, a container or another name for it. Where a function
// must do that, it is marked MXREC_NO_THREAD_SAFETY_ANALYSIS, and a comment says what holds.
#pragma once

#if defined(__clang__)
#define MXREC_THREAD_ATTRIBUTE(x) __attribute__((x))
#else
#define MXREC_THREAD_ATTRIBUTE(x)
#endif

// A class whose objects are locks.
#define MXREC_CAPABILITY(name) MXREC_THREAD_ATTRIBUTE(capability(name))
// A class whose objects hold a lock while they live.
#define MXREC_SCOPED_CAPABILITY MXREC_THREAD_ATTRIBUTE(scoped_lockable)

// A member: read and written while the lock is held; read alone while it is held shared.
#define MXREC_GUARDED_BY(lock) MXREC_THREAD_ATTRIBUTE(guarded_by(lock))

// A function: its caller holds the locks; shared at least.
#define MXREC_REQUIRES(...) MXREC_THREAD_ATTRIBUTE(requires_capability(__VA_ARGS__))
#define MXREC_REQUIRES_SHARED(...) MXREC_THREAD_ATTRIBUTE(requires_shared_capability(__VA_ARGS__))
// It takes or releases them; without an argument: its own object.
#define MXREC_ACQUIRE(...) MXREC_THREAD_ATTRIBUTE(acquire_capability(__VA_ARGS__))
#define MXREC_ACQUIRE_SHARED(...) MXREC_THREAD_ATTRIBUTE(acquire_shared_capability(__VA_ARGS__))
#define MXREC_RELEASE(...) MXREC_THREAD_ATTRIBUTE(release_capability(__VA_ARGS__))
#define MXREC_RELEASE_SHARED(...) MXREC_THREAD_ATTRIBUTE(release_shared_capability(__VA_ARGS__))
// The first argument is what it returns when it has taken them.
#define MXREC_TRY_ACQUIRE(...) MXREC_THREAD_ATTRIBUTE(try_acquire_capability(__VA_ARGS__))
#define MXREC_TRY_ACQUIRE_SHARED(...) \
  MXREC_THREAD_ATTRIBUTE(try_acquire_shared_capability(__VA_ARGS__))

// A function that does nothing: from here on the analysis takes the lock for held.
#define MXREC_ASSUMES(...) MXREC_THREAD_ATTRIBUTE(assert_capability(__VA_ARGS__))
#define MXREC_ASSUMES_SHARED(...) MXREC_THREAD_ATTRIBUTE(assert_shared_capability(__VA_ARGS__))

#define MXREC_NO_THREAD_SAFETY_ANALYSIS MXREC_THREAD_ATTRIBUTE(no_thread_safety_analysis)
