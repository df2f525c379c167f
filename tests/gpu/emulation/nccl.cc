/*
 * NCCL's calls over MPI. As in its non-blocking mode a call is not done when it returns: its work stands on the stream only when the
 * communicator, asked about it, says so; and who asks for more before that, or leaves the work's memory to others, is found out.
 */
#include <memory>
#include <set>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <vector>

#include "emulation.h"
#include "mail.h"
#include "nccl.h"
#include "runtime.h"

using namespace emulated;

enum { N_POLLS = 2 }; /* until a call is done */

struct message {
    bool is_sent;
    char *memory; /* of the device */
    size_t bytes;
    int peer;
};

/* Outlives its handle as long as work refers to it. */
struct communicator {
    int rank, size, tag;
    ncclResult_t state = ncclInProgress;
    std::string last_error;
    bool is_connected = false, is_aborted = false, is_deaf = false, is_stuck = false;
    int polls = 0, fails_in = 0; /* fails_in: polls until a failure is known */
    long n_calls = 0; /* collectives and groups */
    long n_parts = 0; /* calls of groups */
    std::vector<mail *> hello;
    std::vector<char> heard;
    std::vector<message> opened; /* by calls that are not done */
    cudaStream_t stream = NULL;
    std::set<void *> registered;
};

static bool all_came_through(std::vector<mail *> &mails)
{
    bool all = true;
    for (mail *&m : mails)
        if (!mail_came_through(&m)) all = false;
    return all;
}

struct ncclComm {
    std::shared_ptr<communicator> c = std::make_shared<communicator>();
};

static int group_depth;
static std::vector<ncclComm_t> group; /* communicators that are called in it */

/* "RANK:NUMBER" of the environment names this call. */
static bool is_named(const char *variable, const communicator &c, long n)
{
    const char *text = getenv(variable);
    int rank;
    long number;
    return text && sscanf(text, "%d:%ld", &rank, &number) == 2 && rank == c.rank && number == n;
}

struct exchange : work {
    std::shared_ptr<communicator> c;
    std::vector<message> messages;
    std::vector<std::vector<char>> copies;
    std::vector<mail *> mails;

    void post()
    {
        copies.resize(messages.size());
        mails.resize(messages.size());
        for (size_t i = 0; i < messages.size(); i++) {
            const message &m = messages[i];
            copies[i].resize(m.bytes);
            if (m.is_sent) {
                memcpy(copies[i].data(), m.memory, m.bytes);
                mails[i] = mail_send(copies[i].data(), m.bytes, m.peer, c->tag);
            } else {
                mails[i] = mail_receive(copies[i].data(), m.bytes, m.peer, c->tag);
            }
        }
    }
    bool is_ready() override
    {
        if (c->is_aborted) return true;
        if (c->is_stuck) return false;
        if (copies.size() < messages.size()) post();
        return all_came_through(mails);
    }
    void run() override
    {
        static std::vector<std::vector<std::vector<char>>> abandoned; /* MPI may still read them */
        if (c->is_aborted) {
            for (mail *&m : mails) mail_drop(&m);
            abandoned.push_back(std::move(copies));
            return;
        }
        for (size_t i = 0; i < messages.size(); i++)
            if (!messages[i].is_sent) memcpy(messages[i].memory, copies[i].data(), messages[i].bytes);
    }
};

/* The calls since the last one that was done become work of the stream. */
static void settle(communicator &c, const std::shared_ptr<communicator> &shared)
{
    if (c.opened.empty()) return;
    exchange *w = new exchange;
    w->c = shared;
    w->messages.swap(c.opened);
    queue(c.stream, w);
}

static ncclResult_t failed(communicator &c, ncclResult_t rc, const char *text)
{
    c.state = rc;
    c.last_error = text;
    return rc;
}

static void poll(const std::shared_ptr<communicator> &shared)
{
    communicator &c = *shared;
    if (c.fails_in > 0 && --c.fails_in == 0) failed(c, ncclRemoteError, "the emulated peer closed the connection");
    if (c.state != ncclInProgress) return;
    if (!c.is_connected) {
        if (setting("EMULATED_NCCL_REFUSES", -1) == c.rank) {
            failed(c, ncclSystemError, "the emulated network refuses");
            return;
        }
        if (c.is_deaf || !all_came_through(c.hello)) return;
        c.is_connected = true;
    }
    if (c.polls-- > 0) return;
    c.state = ncclSuccess;
    settle(c, shared);
}

static size_t bytes_of(size_t n, ncclDataType_t type) { return n * (type == ncclFloat32 ? 4 : 2); }

static void check_memory(const void *p, size_t bytes, const char *call)
{
    memory_kind kind;
    if (bytes > 0 && (!kind_of(p, bytes, &kind) || kind != DEVICE)) emulated_defect("%s of %zu bytes that are not the device's memory", call, bytes);
}

/* A call of its own is a group of one. */
static ncclResult_t end_call(ncclComm_t comm)
{
    communicator &c = *comm->c;
    c.n_calls++;
    if (c.state != ncclSuccess) return c.state;
    if (is_named("EMULATED_NCCL_FAILS", c, c.n_calls)) {
        c.is_stuck = true;
        settle(c, comm->c);
        c.fails_in = N_POLLS;
        return ncclSuccess; /* it is told to those who ask */
    }
    if (is_named("EMULATED_NCCL_HANGS", c, c.n_calls)) c.is_stuck = true;
    c.state = ncclInProgress;
    c.polls = N_POLLS;
    return c.n_calls % 2 ? ncclSuccess : ncclInProgress; /* some versions say the one and mean the other */
}

static ncclResult_t begin_call(ncclComm_t comm, cudaStream_t stream, const char *call)
{
    communicator &c = *comm->c;
    if (c.state == ncclInProgress) emulated_defect("%s before the last call was done", call);
    if (c.state != ncclSuccess) return c.state;
    c.stream = stream;
    return ncclSuccess;
}

static ncclResult_t after_call(ncclComm_t comm)
{
    if (group_depth == 0) return end_call(comm);
    for (ncclComm_t other : group)
        if (other == comm) return ncclSuccess;
    group.push_back(comm);
    return ncclSuccess;
}

extern "C" {

ncclResult_t ncclGetVersion(int *version)
{
    *version = (int)setting("EMULATED_NCCL_VERSION", NCCL_VERSION_CODE);
    return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    static int n_ids;
    memset(id, 0, sizeof(*id));
    snprintf(id->internal, sizeof(id->internal), "%d", 1000 + 2 * (n_ids++ % 10000));
    return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *comm, int n_ranks, ncclUniqueId id, int rank, ncclConfig_t *config)
{
    if (config->blocking != 0 || config->magic != 0xcafebeef) emulated_defect("a communicator is emulated in the non-blocking mode only");
    if (n_ranks != mail_size() || rank != mail_rank()) emulated_defect("a communicator is emulated for all ranks only");
    *comm = new ncclComm;
    communicator &c = *(*comm)->c;
    c.rank = rank;
    c.size = n_ranks;
    c.tag = atoi(id.internal);
    c.polls = N_POLLS;
    c.is_deaf = setting("EMULATED_NCCL_DEAF", -1) == rank;
    c.heard.resize((size_t)n_ranks);
    for (int peer = 0; peer < n_ranks; peer++) {
        c.hello.push_back(mail_receive(&c.heard[(size_t)peer], 1, peer, c.tag + 1));
        if (!c.is_deaf) c.hello.push_back(mail_send("!", 1, peer, c.tag + 1));
    }
    return ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *state)
{
    poll(comm->c);
    *state = comm->c->state;
    return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm)
{
    ncclResult_t rc = begin_call(comm, comm->c->stream, "ncclCommFinalize");
    if (rc != ncclSuccess) return rc;
    comm->c->state = ncclInProgress;
    comm->c->polls = N_POLLS;
    return ncclInProgress;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm)
{
    if (comm->c->state == ncclInProgress) emulated_defect("ncclCommDestroy before ncclCommFinalize was done");
    if (!comm->c->registered.empty()) emulated_defect("ncclCommDestroy with %zu pieces of memory registered", comm->c->registered.size());
    delete comm;
    return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm)
{
    if (group_depth > 0) emulated_defect("ncclCommAbort within a group");
    comm->c->is_aborted = true;
    for (mail *&m : comm->c->hello) mail_drop(&m);
    delete comm;
    return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t result)
{
    return result == ncclSystemError ? "unhandled system error" : result == ncclRemoteError ? "remote process exited or there was a network error" : "another error";
}

const char *ncclGetLastError(ncclComm_t comm) { return comm ? comm->c->last_error.c_str() : ""; }

ncclResult_t ncclCommRegister(const ncclComm_t comm, void *memory, size_t bytes, void **handle)
{
    check_memory(memory, bytes, "ncclCommRegister");
    comm->c->registered.insert(memory);
    *handle = memory;
    return ncclSuccess;
}

ncclResult_t ncclCommDeregister(const ncclComm_t comm, void *handle)
{
    memory_kind kind;
    if (comm->c->registered.erase(handle) == 0) emulated_defect("ncclCommDeregister of memory that is not registered");
    if (!kind_of(handle, 1, &kind)) emulated_defect("memory was freed while registered with NCCL");
    return ncclSuccess;
}

ncclResult_t ncclGroupStart(void)
{
    group_depth++;
    return ncclSuccess;
}

ncclResult_t ncclGroupEnd(void)
{
    ncclResult_t rc = ncclSuccess;
    if (--group_depth > 0) return ncclSuccess;
    for (ncclComm_t comm : group) rc = end_call(comm);
    group.clear();
    return rc;
}

static ncclResult_t add(ncclComm_t comm, cudaStream_t stream, const char *call, std::vector<message> messages)
{
    ncclResult_t rc = begin_call(comm, stream, call);
    if (rc != ncclSuccess) return rc;
    if (group_depth > 0 && is_named("EMULATED_NCCL_REJECTS", *comm->c, ++comm->c->n_parts))
        return failed(*comm->c, ncclInvalidArgument, "the emulated call is rejected");
    for (const message &m : messages) {
        check_memory(m.memory, m.bytes, call);
        if (m.peer < 0 || m.peer >= comm->c->size || m.peer == comm->c->rank) return failed(*comm->c, ncclInvalidArgument, "such a peer is not emulated");
        comm->c->opened.push_back(m);
    }
    return after_call(comm);
}

ncclResult_t ncclSend(const void *sent, size_t n, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream)
{
    if (group_depth == 0) emulated_defect("ncclSend outside of a group is not emulated");
    return add(comm, stream, "ncclSend", {{true, (char *)sent, bytes_of(n, type), peer}});
}

ncclResult_t ncclRecv(void *received, size_t n, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream)
{
    if (group_depth == 0) emulated_defect("ncclRecv outside of a group is not emulated");
    return add(comm, stream, "ncclRecv", {{false, (char *)received, bytes_of(n, type), peer}});
}

ncclResult_t ncclAllGather(const void *sent, void *received, size_t n, ncclDataType_t type, ncclComm_t comm, cudaStream_t stream)
{
    const communicator &c = *comm->c;
    size_t bytes = bytes_of(n, type);
    std::vector<message> messages;
    if ((char *)received + (size_t)c.rank * bytes != sent) emulated_defect("ncclAllGather is emulated in place only");
    for (int peer = 0; peer < c.size; peer++) {
        if (peer == c.rank) continue;
        messages.push_back({true, (char *)sent, bytes, peer});
        messages.push_back({false, (char *)received + (size_t)peer * bytes, bytes, peer});
    }
    return add(comm, stream, "ncclAllGather", messages);
}

ncclResult_t ncclBroadcast(const void *sent, void *received, size_t n, ncclDataType_t type, int root, ncclComm_t comm, cudaStream_t stream)
{
    const communicator &c = *comm->c;
    size_t bytes = bytes_of(n, type);
    std::vector<message> messages;
    if (sent != received) emulated_defect("ncclBroadcast is emulated in place only");
    for (int peer = 0; peer < c.size; peer++)
        if (peer != c.rank && (peer == root || c.rank == root)) messages.push_back({c.rank == root, (char *)received, bytes, peer});
    return add(comm, stream, "ncclBroadcast", messages);
}

} // extern "C"
