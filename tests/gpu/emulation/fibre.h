/* Fibres: stacks that one thread of the host runs in turn. */
#ifndef EMULATED_FIBRE_H
#define EMULATED_FIBRE_H

namespace emulated {

struct fibre;

fibre *fibre_make(void (*body)(void *), void *argument); /* body must not return */
/* Runs it until it calls fibre_yield. */
void fibre_run(fibre *f);
void fibre_yield();

} // namespace emulated

#endif
