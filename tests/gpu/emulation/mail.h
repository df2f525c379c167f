/* Messages between the processes that play GPUs, by MPI; in C, because that is what MPI's compiler wrapper is there for. */
#ifndef EMULATED_MAIL_H
#define EMULATED_MAIL_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mail mail; /* one message under way */

int mail_rank(void); /* of this process among all */
int mail_size(void);
/* The bytes stay where they are until it has come through. */
mail *mail_send(const void *data, size_t bytes, int peer, int tag);
mail *mail_receive(void *data, size_t bytes, int peer, int tag);
/* Has it? Then it is released, and *m NULL. */
int mail_came_through(mail **m);
void mail_drop(mail **m);

#ifdef __cplusplus
}
#endif

#endif
