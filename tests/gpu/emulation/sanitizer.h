/* EMULATED_WITH_ASAN: this is compiled for the address sanitizer. */
#ifndef EMULATED_SANITIZER_H
#define EMULATED_SANITIZER_H

#if defined(__SANITIZE_ADDRESS__)
#define EMULATED_WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EMULATED_WITH_ASAN 1
#endif
#endif

#endif
