/* Status codes, the message of the first error, and the frames it passed through. */
#ifndef SGC_BASE_STATUS_H
#define SGC_BASE_STATUS_H

typedef enum sgc_status {
    SGC_OK = 0,
    SGC_EARG,      /* a caller broke the contract of a function                   */
    SGC_ECONFIG,   /* the user's settings or command line are wrong (exit 2)      */
    SGC_EDATA,     /* an input file cannot be used                                */
    SGC_EIO,       /* reading or writing failed                                   */
    SGC_ENOMEM,    /* memory could not be had                                     */
    SGC_ECOMM,     /* a message-passing call failed; fatal for the job            */
    SGC_ECKPT,     /* a checkpoint is damaged, incomplete or does not fit         */
    SGC_EDEVICE,   /* a GPU or its driver cannot be used, or has failed           */
    SGC_ENONFINITE /* loss or gradient is not finite and training.nonfinite=stop  */
} sgc_status;

#define SGC_ERR_BYTES 16384 /* of a message, NUL included; longer ones are cut */

/* Record an error and return its status. The first error of a thread is kept until sgc_err_clear; later ones
 * (from clean-up code) are dropped. The message says what happened and what to do, without a full stop. */
sgc_status sgc_err(sgc_status st, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Same, with ": strerror(errno)" appended. */
sgc_status sgc_err_errno(sgc_status st, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Add the place that an error passed through; shown at log level debug. */
void sgc_err_frame(const char *file, int line, const char *call);

/* Take over an error that another rank met. rank and node are kept for the message. */
sgc_status sgc_err_remote(sgc_status st, int rank, const char *node, const char *message);

const char *sgc_err_message(void); /* "" when there is none                    */
const char *sgc_err_origin(void);  /* "rank 2 on node07", "" when it is local  */
const char *sgc_err_frames(void);  /* one line per frame                       */
void sgc_err_clear(void);

#define SGC_TRY(call)                                   \
    do {                                                \
        if ((st = (call)) != SGC_OK) {                  \
            sgc_err_frame(__FILE__, __LINE__, #call);   \
            goto done;                                  \
        }                                               \
    } while (0)

/* Clean-up code: keeps the first error and goes on. */
#define SGC_KEEP(call)                                  \
    do {                                                \
        sgc_status st_ = (call);                        \
        if (st == SGC_OK) st = st_;                     \
    } while (0)

#endif
