/* sanitized: whether this build has the address or the thread sanitizer. Programs then run several
 * times slower, and their memory is not their own alone. */
#ifndef GAGGLE_TESTS_SANITIZED_H
#define GAGGLE_TESTS_SANITIZED_H

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#endif
