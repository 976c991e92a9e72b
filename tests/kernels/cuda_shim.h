// CUDA on a CPU, as far as intervals.cu needs it: the threads of a block are fibers that run one
// after another from one synchronisation to the next. What a GPU leaves undefined is an error
// here: threads of a block that do not all come to a synchronisation, or shared memory beyond
// what the launch asked for; shared memory begins as NaN.

#include <algorithm>
#include <csetjmp>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <ucontext.h>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __shared__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))

struct Index {
    unsigned x;
};

struct alignas(16) int4 {
    int x, y, z, w;
};

enum State { READY, AT_SHUFFLE, AT_WARP, AT_BLOCK, DONE };

constexpr int MOST_THREADS = 1024;
constexpr size_t STACK = 64 << 10, MOST_SHARED = 48 << 10, GUARD = 16 << 10;

struct Fiber {
    jmp_buf point;  // where it goes on, once it has begun
    bool begun;
    State state;
    bool odd;                  // which of its two slots the next shuffle uses
    unsigned char slot[2][8];  // what the other lanes see of it
    std::unique_ptr<char[]> stack{new char[STACK]};
};

static Index threadIdx, blockIdx, blockDim;
alignas(16) unsigned char scratch[MOST_SHARED + GUARD];
static std::vector<Fiber> fibers;
static jmp_buf scheduler;
static void (*body)();

static void wait(State state) {
    Fiber& own = fibers[threadIdx.x];
    own.state = state;
    if (_setjmp(own.point) == 0) _longjmp(scheduler, 1);
}

static void __syncthreads() { wait(AT_BLOCK); }

static void __syncwarp() { wait(AT_WARP); }

template <typename T>
T __shfl_xor_sync(unsigned, T value, int mask) {
    Fiber& own = fibers[threadIdx.x];
    const int odd = own.odd = !own.odd;
    std::memcpy(own.slot[odd], &value, sizeof(T));
    wait(AT_SHUFFLE);
    std::memcpy(&value, fibers[threadIdx.x ^ unsigned(mask)].slot[odd], sizeof(T));
    return value;
}

static void run_fiber() {
    body();
    wait(DONE);
}

// Sets threads [begin, end) going again if all of them wait for the same.
static bool release(unsigned begin, unsigned end, State state) {
    for (unsigned t = begin; t < end; ++t)
        if (fibers[t].state != state) return false;
    for (unsigned t = begin; t < end; ++t) fibers[t].state = READY;
    return true;
}

// Runs a thread up to its next synchronisation. A context is only for the first entry onto a new
// stack: to switch by contexts costs a system call each time.
static void resume(Fiber& fiber) {
    if (_setjmp(scheduler)) return;
    if (fiber.begun) _longjmp(fiber.point, 1);
    fiber.begun = true;
    ucontext_t entry;
    getcontext(&entry);
    entry.uc_stack.ss_sp = fiber.stack.get();
    entry.uc_stack.ss_size = STACK;
    makecontext(&entry, run_fiber, 0);
    setcontext(&entry);
}

// Whether all threads of a block came to the end together.
static bool run_block(bool backwards) {
    const unsigned threads = blockDim.x;
    for (unsigned t = 0; t < threads; ++t) {
        fibers[t].state = READY;
        fibers[t].begun = false;
    }
    for (;;) {
        for (unsigned i = 0; i < threads; ++i) {
            threadIdx.x = backwards ? threads - 1 - i : i;
            if (fibers[threadIdx.x].state == READY) resume(fibers[threadIdx.x]);
        }
        bool going = release(0, threads, AT_BLOCK);
        for (unsigned t = 0; t < threads; t += 32)
            going |= release(t, t + 32, AT_SHUFFLE) || release(t, t + 32, AT_WARP);
        if (!going) return release(0, threads, DONE);
    }
}

struct Kernel {
    std::vector<int> sizes;  // of its arguments, in bytes
    void (*call)();          // with `arguments`
};

static void** arguments;

template <auto kernel>
struct Launch;

template <typename... A, void (*kernel)(A...)>
struct Launch<kernel> {
    template <size_t... I>
    static void with(std::index_sequence<I...>) {
        kernel(*static_cast<A*>(arguments[I])...);
    }
    static void call() { with(std::index_sequence_for<A...>{}); }
    static Kernel entry() { return {{int(sizeof(A))...}, call}; }
};

static std::map<std::string, Kernel> kernels();

// The number of a kernel's arguments, and their sizes; 0 for a name without a kernel.
extern "C" int argument_sizes(const char* name, int* sizes) {
    const auto all = kernels();
    const auto found = all.find(name);
    if (found == all.end()) return 0;
    std::copy(found->second.sizes.begin(), found->second.sizes.end(), sizes);
    return int(found->second.sizes.size());
}

// Runs a kernel; returns what went wrong, or nothing.
extern "C" const char* launch(const char* name, unsigned blocks, unsigned threads, size_t shared,
                              void** values, int backwards) {
    if (threads == 0 || threads % 32 || threads > MOST_THREADS) return "bad number of threads";
    if (shared > MOST_SHARED) return "more shared memory than a block may have";
    if (fibers.empty()) fibers = std::vector<Fiber>(MOST_THREADS);
    const Kernel kernel = kernels().at(name);
    arguments = values;
    body = kernel.call;
    blockDim.x = threads;
    for (unsigned i = 0; i < blocks; ++i) {
        blockIdx.x = backwards ? blocks - 1 - i : i;
        std::memset(scratch, 0xff, sizeof(scratch));
        if (!run_block(backwards)) return "not all threads came to a synchronisation";
        for (size_t at = shared; at < sizeof(scratch); ++at)
            if (scratch[at] != 0xff) return "a write beyond the shared memory";
    }
    return nullptr;
}
