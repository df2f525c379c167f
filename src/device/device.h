/*
 * Devices: memory and kernels behind one ops table. A table fixes two element types, so kernels take untyped pointers: the values
 * (parameters, activations and their gradients), and the wide numbers (gradients of parameters, statistics, logits, optimizer states).
 *     cpu, ref32, cuda: float, float      cpu_bf16, cuda_bf16: bf16, float      cuda_fp16: fp16, float      ref64: double, double
 * Losses and token ids have one type everywhere.
 * Letters: B batch, T positions, C channels, H heads, D = C / H, V vocabulary, N rows (usually B * T).
 */
#ifndef SGC_DEVICE_DEVICE_H
#define SGC_DEVICE_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/dtype.h"
#include "base/mem.h"
#include "base/philox.h"
#include "base/status.h"

typedef struct sgc_device sgc_device;

/* Which elements are dropped: those whose 32 random bits are below p * 2^32. The bits of element e of tensor `stream` of
 * global sample s are word e % 4 of philox(key, {e / 4 (low 32), e / 4 (high 16) << 16 | stream (16 bits), s low, s high}); kept ones
 * are multiplied by 1 / (1 - p). p = 0: nothing is dropped and nothing computed. */
typedef struct sgc_dropout {
    double p;
    const sgc_philox_key *key; /* of (seed, step), see sgc_dropout_key; borrowed, the device's memory */
    uint32_t stream;         /* number of the dropout in the model, below 65536    */
    const int64_t *sample;   /* [B] global sample numbers, borrowed, the device's memory */
} sgc_dropout;

static inline sgc_philox_key sgc_dropout_key(uint64_t seed, int64_t step)
{
    return sgc_philox_make_key(seed + (uint64_t)step * 0xD1342543DE82EF95u, SGC_PURPOSE_DROPOUT);
}

typedef struct sgc_adamw { /* one update of one range; formula of torch.optim.AdamW */
    double learning_rate, beta1, beta2, epsilon;
    int64_t t;               /* number of this update, from 1: bias correction     */
    double grad_scale;       /* factor on the gradient: clipping                   */
} sgc_adamw;

/* A range of an update by its parts, as they follow each other: each up to the next one's first element, the last up to the end. */
typedef enum sgc_update { SGC_UPDATE_NONE, SGC_UPDATE, SGC_UPDATE_WITH_DECAY } sgc_update; /* none: between tensors */
typedef struct sgc_update_part {
    int64_t first;
    sgc_update kind;
} sgc_update_part;

typedef struct sgc_mark sgc_mark; /* a point in the work of a device, for which the host can wait */
typedef struct sgc_recording sgc_recording; /* calls that a device has been asked for before, to be asked for as one */

/*
 * Memory that the host does not see, of a device that works behind the host's back: calls of this and of the ops table ask for work, which
 * is done in the order of the calls. What fails then is kept and told by the next wait. Devices without this table share the host's memory,
 * and their calls are done when they return; sgc_device_alloc and its sisters below serve both.
 */
typedef struct sgc_device_memory {
    void *(*alloc)(sgc_device *d, size_t bytes);         /* zeroed, aligned to 256 bytes; NULL: there is not so much (nothing is recorded) */
    void (*free)(sgc_device *d, void *p);                /* after all work that was asked for */
    void *(*alloc_staging)(sgc_device *d, size_t bytes); /* zeroed memory of the host that copies reach at full speed; NULL as above      */
    void (*free_staging)(sgc_device *d, void *p);
    size_t (*available)(sgc_device *d);                  /* bytes that alloc could still give                                             */
    void (*copy)(sgc_device *d, void *to, const void *from, size_t bytes);     /* within the device                                       */
    void (*clear)(sgc_device *d, void *p, size_t bytes);
    void (*upload)(sgc_device *d, void *to, const void *staging, size_t bytes);   /* staging is unchanged until a later mark is reached  */
    void (*download)(sgc_device *d, void *staging, const void *from, size_t bytes); /* there when a later mark is reached                */
    sgc_mark *(*mark_make)(sgc_device *d);               /* NULL: no memory */
    void (*mark_free)(sgc_device *d, sgc_mark *m);
    void (*mark_set)(sgc_device *d, sgc_mark *m);        /* here, in the order of calls */
    sgc_status (*mark_wait)(sgc_device *d, sgc_mark *m); /* for the last setting, if any; SGC_EDEVICE: something has failed */
    sgc_status (*finish)(sgc_device *d);                 /* wait for everything; as mark_wait */
    /* Takes ahead what kernels would take for themselves when they first need it, see sgc_device_ops.scratch_bytes. SGC_ENOMEM */
    sgc_status (*reserve)(sgc_device *d, size_t scratch_bytes);
    void *(*stream)(sgc_device *d);                      /* where its work is queued: a cudaStream_t, for message libraries that join it */
    /* Recordings: see sgc_device_repeat. NULL: this device has none. */
    void (*repeat)(sgc_device *d, sgc_recording **r, void (*calls)(void *arg), void *arg);
    void (*forget)(sgc_device *d, sgc_recording *r);
} sgc_device_memory;

/* c [m, n] = (or += with add) op(a) op(b) + bias [n] (NULL: none); op(a) is [m, k], stored [k, m] if ta; op(b) is [k, n], stored [n, k] if tb.
 * Row major. a, b and bias are values; c is, too, or wide. Sums are made in the wide type.
 * An activation may follow, where c is or would be of values, not added to and without gaps between rows: either its value goes to `activated` [m, n],
 * or c is multiplied by its slope at the values `slope_at` [m, n]. Devices may make that with the product, before c is rounded; but where
 * c and its activation are both wanted, that is activation_forward of what c has become, as calls repeated in the backward pass make it.
 * Where c is the gradient of weights, b is that of what they make, and the sums of its columns that of the bias: not with tb, and without gaps. */
typedef struct sgc_matmul {
    void *c;                 /* NULL: only `activated` is wanted */
    const void *a, *b, *bias;
    bool c_is_wide, add, ta, tb;
    int64_t m, n, k;
    int64_t ldc, lda, ldb;   /* elements from one stored row to the next; 0: as many as a row has */
    void *activated;         /* NULL: none, as the next one */
    const void *slope_at;
    int activation;          /* sgc_activation of conf/config.h */
    void *sums;              /* [n], wide: = (or += with add_sums) sums of the columns of b; NULL: none */
    bool add_sums;
} sgc_matmul;

/* Attention of one shape, as its calls will have it. */
typedef struct sgc_attention_shape {
    int64_t B, T, C, H;
    double dropout;          /* p of the weights */
    bool backward;           /* with its gradient */
} sgc_attention_shape;

/* "+=" marks outputs that are added to. Results do not depend on the number of threads, but for matmul without exact_threads, nor an
 * element's on its place in a range. Memory is taken at the first call of a shape only (prepared matrix products, scratch);
 * a kernel that cannot have it ends the process with a message. */
typedef struct sgc_device_ops {
    const char *name;
    sgc_dtype value, wide;
    bool is_null;            /* computes nothing: tensors have no memory           */
    const sgc_device_memory *memory; /* NULL: the host's                           */
    size_t chunk_bytes;      /* of logits that are best made at once               */
    int64_t row_multiple;    /* of elements: a stride of rows that products like   */
    int64_t largest_head;    /* elements of an attention head that it takes; 0: any */
    /* Makes ready what attention of a shape needs, before it is first called and outside of updates: some take seconds. bytes: of memory that the
     * caller is to lend (sgc_device.lent) to each call of attention_forward and of attention_backward. NULL: there is nothing to prepare.
     * SGC_ECONFIG: what the settings ask for is not to be had for this shape. */
    sgc_status (*attention_prepare)(sgc_device *d, const sgc_attention_shape *s, size_t bytes[2]);
    /* Bytes that kernels want for themselves, one after the other, in a model with attention of this shape and rows of `widest` numbers: no less
     * than any of them takes. NULL: none. */
    size_t (*scratch_bytes)(const sgc_device *d, const sgc_attention_shape *s, int64_t widest);
    bool rounds_in_place;    /* values may take the place of the wide numbers that they are made of, in cross_entropy and narrow */

    /* x[n, :] = wte[token[n], :] + wpe[position + n % T, :] */
    void (*embedding_forward)(sgc_device *d, void *x, const int32_t *token, const void *wte, const void *wpe, int64_t B, int64_t T, int64_t C, int64_t position);
    /* dwte, dwpe: wide, += ; rows are added in the order of n, so equal tokens always add in the same order */
    void (*embedding_backward)(sgc_device *d, void *dwte, void *dwpe, const void *dx, const int32_t *token, int64_t B, int64_t T, int64_t C);

    /* y, x: [N, C]; w, b: [C]; mean, rstd: [N], wide */
    void (*layer_norm_forward)(sgc_device *d, void *y, void *mean, void *rstd, const void *x, const void *w, const void *b, int64_t N, int64_t C, double epsilon);
    /* dx = (or += with add_dx); dw, db: wide, += */
    void (*layer_norm_backward)(sgc_device *d, void *dx, bool add_dx, void *dw, void *db, const void *dy, const void *x, const void *w, const void *mean, const void *rstd, int64_t N, int64_t C);

    /* z = x + dropout of r, and y, mean, rstd of z, in one pass and with the bits of dropout, add and layer_norm_forward one after the other.
     * x, r, z, y: [B * T, C]; z may be x or r. */
    void (*residual_norm_forward)(sgc_device *d, void *z, void *y, void *mean, void *rstd, const void *x, const void *r, const void *w, const void *b, int64_t B,
                                  int64_t T, int64_t C, double epsilon, const sgc_dropout *drop);
    /* layer_norm_backward, and dr = dropout of dx, in one pass and with the bits of both one after the other. [B * T, C] */
    void (*residual_norm_backward)(sgc_device *d, void *dx, bool add_dx, void *dr, void *dw, void *db, const void *dy, const void *x, const void *w, const void *mean,
                                   const void *rstd, int64_t B, int64_t T, int64_t C, const sgc_dropout *drop);

    void (*matmul)(sgc_device *d, const sgc_matmul *p);

    /* Causal self-attention, scaled by 1/sqrt(D). qkv [B, T, 3C] (q, k, v one after the other, each [H, D]); y [B, T, C]; lse [B, H, T], wide: log of the
     * sum of exponentials of each row. Dropout (may have p = 0) acts on the weights; element (h * T + i) * T + j. */
    void (*attention_forward)(sgc_device *d, void *y, void *lse, const void *qkv, int64_t B, int64_t T, int64_t C, int64_t H, const sgc_dropout *drop);
    /* dqkv = ; y and lse from the forward pass */
    void (*attention_backward)(sgc_device *d, void *dqkv, const void *dy, const void *y, const void *lse, const void *qkv, int64_t B, int64_t T, int64_t C, int64_t H, const sgc_dropout *drop);
    /* Append T positions to the key/value cache ([B, capacity, C] each) at `position`, and attend to all positions up to each. */
    void (*attention_cached)(sgc_device *d, void *y, void *cache_k, void *cache_v, const void *qkv, int64_t B, int64_t T, int64_t C, int64_t H, int64_t position, int64_t capacity);

    /* kind: sgc_activation of conf/config.h. x, y: [n]. dx may be dy. */
    void (*activation_forward)(sgc_device *d, int kind, void *y, const void *x, int64_t n);
    void (*activation_backward)(sgc_device *d, int kind, void *dx, const void *dy, const void *x, int64_t n);

    /* z = x + y; z may be x or y */
    void (*add)(sgc_device *d, void *z, const void *x, const void *y, int64_t n);
    /* y = dropped and scaled x: forward, and backward with y = dx, x = dy. [B, n_per_sample]; y may be x. */
    void (*dropout)(sgc_device *d, void *y, const void *x, int64_t B, int64_t n_per_sample, const sgc_dropout *drop);

    /* Rows of logits [N, V], wide, against target [N] (-100: ignored, loss 0). loss [N] in nats, smoothed: (1 - s) * nll + s * mean over V of
     * -log p. dlogits (NULL: none) [N, V], values: d(*scale * sum of losses)/d logits, zero in ignored rows; may be logits where both types are one, or
     * with rounds_in_place: then each row begins where that of the logits does. Else ld: elements from one row of logits, and of dlogits, to the next.
     * scale: the device's memory, read for dlogits only. */
    void (*cross_entropy)(sgc_device *d, double *loss, void *dlogits, const void *logits, const int32_t *target, int64_t N, int64_t V, int64_t ld,
                          double smoothing, const double *scale);

    /* p, m, v: wide; g: of type g_type (the wide one, or the value type); all [n]. p -= lr * (weight_decay * p + ...) in the order of torch: decay
     * first, which only some of the n_parts parts have. The first of them begins at 0. values (NULL: none) [n]: p rounded to the value type. */
    void (*adamw)(sgc_device *d, void *values, void *p, void *m, void *v, const void *g, sgc_dtype g_type, int64_t n, const sgc_update_part *parts, int n_parts,
                  double weight_decay, const sgc_adamw *a);
    /* out[i] = sum of squares, in double and a fixed order, of block i of x, of type x_type as above: [n / block]; n is a multiple of block */
    void (*block_square_sums)(sgc_device *d, double *out, const void *x, sgc_dtype x_type, int64_t n, int64_t block);
    /* Wide numbers rounded to values, to nearest even: [n]. With rounds_in_place both may begin at the same place. */
    void (*narrow)(sgc_device *d, void *values, const void *wide, int64_t n);
    /* sum[i] += x[i]: wide, [n] */
    void (*add_into)(sgc_device *d, void *sum, const void *x, int64_t n);
} sgc_device_ops;

struct sgc_device {
    const sgc_device_ops *ops;
    bool exact_threads;      /* full_determinism: matmul too gives the same bits at any number of threads */
    bool emulates;           /* set on opening: no instructions for its values here */
    void *state;             /* owned by the device (cached primitives, scratch)    */
    struct sgc_device_block *blocks; /* owned: what sgc_device_alloc gave            */
    void *lent;              /* borrowed: the device's memory that the next call of attention may use, see attention_prepare */
    size_t lent_bytes;
    bool is_recording;       /* calls are recorded, not done: whoever waits for the device now waits in vain */
    /* While the host waits for the device, this is called again and again; an error ends the wait, and is its result. NULL: nothing is to be
     * watched. Who sets it takes it away before what it watches is gone. */
    sgc_status (*watch)(void *watched);
    void *watched;           /* borrowed */
    char isa[16];            /* "AVX-512", "sm_90, 132 SMs": which code computes; part of a checkpoint's attributes */
    char about[128];         /* what decides about the bits of its results, in words; equal texts: equal bits       */
};

/* How a device is opened. What a device has no use for is ignored. */
typedef struct sgc_device_spec {
    const char *name;
    bool full_determinism;   /* results are the same at any number of threads, matrix products included */
    int node_rank, node_size; /* GPUs: the rank takes that of its number on the node                   */
    bool share;              /* GPUs: several ranks may take one                                       */
    int n_sharing;           /* GPUs: ranks that take this one; 0 where nobody has counted             */
    bool tf32;               /* GPUs: products of floats in TF32                                       */
    int attention;           /* GPUs: sgc_attention_choice of conf/config.h                            */
    bool graphs;             /* GPUs: calls that come again are recorded as CUDA graphs                */
} sgc_device_spec;

/**
 * Open a device by its name: "cpu", "cpu_bf16" (fast), "ref32", "ref64" (plain loops), "cuda", "cuda_bf16", "cuda_fp16", "null". Local.
 * @return SGC_EARG: no such name. SGC_EDEVICE: no such device here, or not for this rank.
 */
sgc_status sgc_device_open_spec(sgc_device *d, const sgc_device_spec *spec);

/* The same for devices that need no more than a name. Attention is by own kernels. */
sgc_status sgc_device_open(sgc_device *d, const char *name, bool full_determinism);
void sgc_device_close(sgc_device *d);
/* Is this kind of device in this program, whatever the machine has? */
bool sgc_device_is_built(const char *name);

/* The GPUs that this process may use, in the order of their numbers. */
enum { SGC_MAX_GPUS = 64 };
typedef struct sgc_gpus {
    int n;
    uint8_t id[SGC_MAX_GPUS][16]; /* unlike those of all other GPUs      */
    char none[160];               /* why there is none                   */
} sgc_gpus;

/* Local. SGC_EDEVICE: there are some, but this program cannot use them. */
sgc_status sgc_device_gpus(sgc_gpus *gpus);

/* Zeroed memory of a device, counted by its purpose as base/mem.h does. NULL: SGC_ENOMEM is recorded and names purpose, wanted, held and advice. */
void *sgc_device_alloc(sgc_device *d, sgc_mem_purpose purpose, size_t bytes);
/* Zeroed memory of the host that copies to and from the device reach at full speed; otherwise the same. */
void *sgc_device_alloc_staging(sgc_device *d, sgc_mem_purpose purpose, size_t bytes);
void sgc_device_free(sgc_device *d, void *p); /* of either kind; NULL is allowed */
void sgc_device_copy(sgc_device *d, void *to, const void *from, size_t bytes);
void sgc_device_clear(sgc_device *d, void *p, size_t bytes);
/* To and from any memory of the host; done when they return. */
sgc_status sgc_device_write(sgc_device *d, void *to, const void *host, size_t bytes);
sgc_status sgc_device_read(sgc_device *d, void *host, const void *from, size_t bytes);
/* As sgc_device_memory has them: done at the next wait. */
void sgc_device_download(sgc_device *d, void *staging, const void *from, size_t bytes);
sgc_status sgc_device_finish(sgc_device *d);

/**
 * Asks for work that will be asked for again: by the same calls with the same arguments, though what the arguments point to may change. A device that
 * has no use for that does them each time. Others do them the first time, record them the second time, and from then on ask for what was recorded.
 * @param r      NULL at first; owned by the caller, for sgc_device_forget
 * @param calls  calls(arg) makes them: calls of the ops table, copies and clears, and nothing that waits for the device or allocates its memory.
 *               What cannot be recorded after all is logged once, and calls are made directly from then on.
 */
void sgc_device_repeat(sgc_device *d, sgc_recording **r, void (*calls)(void *arg), void *arg);
void sgc_device_forget(sgc_device *d, sgc_recording **r); /* before the memory that the calls use is freed; *r becomes NULL, as it may be before */

/* Memory of a device and what the host sees of it; one and the same where the device's memory is the host's. */
typedef struct sgc_mirror {
    void *device, *host;     /* owned */
    size_t bytes;
    sgc_mark *mark;          /* owned: of the last push or pull */
} sgc_mirror;

sgc_status sgc_mirror_make(sgc_mirror *m, sgc_device *d, sgc_mem_purpose purpose, size_t bytes);
void sgc_mirror_free(sgc_mirror *m, sgc_device *d);
void sgc_mirror_push(sgc_mirror *m, sgc_device *d, size_t first, size_t bytes); /* from the host; it may be changed after a wait */
void sgc_mirror_pull(sgc_mirror *m, sgc_device *d, size_t first, size_t bytes); /* to the host; there after a wait */
sgc_status sgc_mirror_wait(sgc_mirror *m, sgc_device *d);

/* "AVX-512 BF16", "AVX-512", "AVX2" or "portable": which code the cpu devices run on this machine. */
const char *sgc_device_isa(void);

#endif
