// Products with an interval factor S, shape (n, runs): column j is nonzero on the cyclic run of
// rows (start[j] + i) mod n, i < width; `contents` holds the runs one after another, run j from
// offset[j] to offset[j + 1].
//
// A product with few columns is bound by memory: it has to read the contents once. So loads of
// contents are what is spread over all threads, coalesced, with several of each thread in flight.
// They are as wide as one scalar: a run starts anywhere in the contents and anywhere among the
// rows, so wider loads of the one would scatter those of the other, and 32 lanes that read 32
// scalars in a row lose nothing by it.
//
// Nothing is added atomically: every entry of the result has one writer and one order of sums.
// Places in the contents are 64-bit numbers, rows and runs 32-bit ones. Operands have contiguous
// columns, `stride` scalars apart. No header is included, so that NVRTC needs no path.

typedef long long int64;
typedef unsigned long long uint64;

extern __shared__ __align__(16) unsigned char scratch[];

// Aligned as a whole, so that one load fetches both parts.
template <typename Real>
struct alignas(2 * sizeof(Real)) Complex {
    Real re, im;
};

template <typename T>
__device__ __forceinline__ T conjugate(T a) {
    return a;
}

template <typename Real>
__device__ __forceinline__ Complex<Real> conjugate(Complex<Real> a) {
    return {a.re, -a.im};
}

template <typename T>
__device__ __forceinline__ void add(T& sum, T a) {
    sum += a;
}

template <typename Real>
__device__ __forceinline__ void add(Complex<Real>& sum, Complex<Real> a) {
    sum.re += a.re;
    sum.im += a.im;
}

template <typename T>
__device__ __forceinline__ void add_product(T& sum, T a, T b) {
    sum += a * b;
}

template <typename Real>
__device__ __forceinline__ void add_product(Complex<Real>& sum, Complex<Real> a, Complex<Real> b) {
    sum.re += a.re * b.re;
    sum.re -= a.im * b.im;
    sum.im += a.re * b.im;
    sum.im += a.im * b.re;
}

// The value of the lane whose number differs in the bits of `mask`; the whole warp calls it.
template <typename T>
__device__ __forceinline__ T from_lane(T a, int mask) {
    return __shfl_xor_sync(0xffffffffu, a, mask);
}

template <typename Real>
__device__ __forceinline__ Complex<Real> from_lane(Complex<Real> a, int mask) {
    return {from_lane(a.re, mask), from_lane(a.im, mask)};
}

__device__ __forceinline__ int smaller(int a, int b) {
    return a < b ? a : b;
}

__device__ __forceinline__ int larger(int a, int b) {
    return a > b ? a : b;
}

// How many loads of contents a thread starts before it uses the first; fewer where its sums
// already fill the registers.
template <typename T, int COLUMNS>
constexpr int IN_FLIGHT = COLUMNS * sizeof(T) <= 8 ? 8 : COLUMNS * sizeof(T) <= 32 ? 4 : 2;

// sum[c] += conj(v) . column c of x over `length` rows in a row, shared by THREADS threads.
template <typename T, int COLUMNS, int THREADS>
__device__ __forceinline__ void add_segment(T (&sum)[COLUMNS], const T* __restrict__ v,
                                            const T* __restrict__ x, int64 stride, int columns,
                                            int length, int lane) {
    constexpr int UNROLL = IN_FLIGHT<T, COLUMNS>;
    for (int at = lane; at < length; at += THREADS * UNROLL) {
        T a[UNROLL];
#pragma unroll
        for (int u = 0; u < UNROLL; ++u) {
            const int i = at + u * THREADS;
            a[u] = i < length ? conjugate(v[i]) : T();
        }
#pragma unroll
        for (int u = 0; u < UNROLL; ++u) {
            const int i = at + u * THREADS;
#pragma unroll
            for (int c = 0; c < COLUMNS; ++c) {
                const bool there = i < length && (c == 0 || c < columns);
                add_product(sum[c], a[u], there ? x[c * stride + i] : T());
            }
        }
    }
}

// Without this figure the compiler keeps to 32 registers, and loads wait for each other.
template <typename T, int COLUMNS>
constexpr int RESIDENT = COLUMNS * sizeof(T) < 32 ? 1024 : 512;

// z = S^H x. THREADS threads share a run: a part of a warp, a warp, or a block. Block b takes
// runs from b % run_blocks and COLUMNS columns from b / run_blocks on.
template <typename T, int COLUMNS, int THREADS>
__global__ void
__launch_bounds__(THREADS <= 32 ? 256 : THREADS,
                  RESIDENT<T, COLUMNS> / (THREADS <= 32 ? 256 : THREADS))
rmatmat(const T* __restrict__ contents, const int64* __restrict__ offset,
        const int* __restrict__ start, int n, int runs, const T* __restrict__ x, int64 stride,
        int columns, T* __restrict__ z) {
    constexpr int RUNS = THREADS <= 32 ? 256 / THREADS : 1;
    const int run_blocks = (runs + RUNS - 1) / RUNS;
    const int run = blockIdx.x % run_blocks * RUNS + threadIdx.x / THREADS;
    const int column = blockIdx.x / run_blocks * COLUMNS;
    const int lane = threadIdx.x % THREADS;
    x += column * stride;
    columns -= column;

    T sum[COLUMNS] = {};
    if (run < runs) {
        const T* v = contents + offset[run];
        const int width = int(offset[run + 1] - offset[run]);
        const int head = smaller(width, n - start[run]);
        // A run is at most two straight segments: up to the edge, and on from the first row.
#pragma unroll 1
        for (int part = 0; part < 2; ++part)
            add_segment<T, COLUMNS, THREADS>(sum, part ? v + head : v, part ? x : x + start[run],
                                             stride, columns, part ? width - head : head, lane);
    }
#pragma unroll
    for (int c = 0; c < COLUMNS; ++c)
#pragma unroll
        for (int mask = smaller(THREADS, 32) / 2; mask; mask /= 2)
            add(sum[c], from_lane(sum[c], mask));

    if constexpr (THREADS > 32) {
        T* partial = reinterpret_cast<T*>(scratch);
        if (lane % 32 == 0)
#pragma unroll
            for (int c = 0; c < COLUMNS; ++c) partial[lane / 32 * COLUMNS + c] = sum[c];
        __syncthreads();
        if (lane < COLUMNS && lane < columns) {
            T total = partial[lane];
            for (int warp = 1; warp < THREADS / 32; ++warp)
                add(total, partial[warp * COLUMNS + lane]);
            z[(column + lane) * int64(runs) + run] = total;
        }
    } else if (run < runs && lane == 0) {
#pragma unroll
        for (int c = 0; c < COLUMNS; ++c)
            if (c < columns) z[(column + c) * int64(runs) + run] = sum[c];
    }
}

// The scalars of z that belong to one piece, read from shared memory in few words.
template <typename T, int COLUMNS>
struct alignas(COLUMNS * sizeof(T) < 16 ? COLUMNS * sizeof(T) : 16) Factors {
    T at[COLUMNS];
};

// The most threads of a block of matmat: 32 warps, fewer where a lane's sums exceed 32 bytes.
template <typename T, int COLUMNS, int ROWS>
constexpr int LARGEST_BLOCK =
    ROWS * COLUMNS * sizeof(T) <= 32 ? 1024 : 32 * 1024 / int(ROWS * COLUMNS * sizeof(T));

// y = S z. A block owns a tile of 32 * ROWS rows and COLUMNS columns; its warps share out the
// pieces of runs that the tile meets, bounded by begin[tile] and begin[tile + 1], and each of
// their lanes has ROWS rows. A piece is four words: base (two of them), run, and first | end << 16.
// Of the tile's rows, counted from its first one, run `run` covers [first, end), row r at
// contents[base + r].
//
// A warp fetches 32 pieces, one a lane, with their scalars of z, and leaves them in its share of
// the shared memory, from where all its lanes read one after another. That share holds
// 32 * (16 + COLUMNS * sizeof(T)) bytes and, in the end, the warp's sums: 32 * ROWS * COLUMNS
// scalars from the beginning of the shared memory on.
template <typename T, int COLUMNS, int ROWS>
__global__ void __launch_bounds__(LARGEST_BLOCK<T, COLUMNS, ROWS>, 1)
matmat(const T* __restrict__ contents, const int64* __restrict__ begin,
       const int4* __restrict__ pieces, int n, const T* __restrict__ z, int64 stride, int columns,
       T* __restrict__ y, int64 row_stride, int64 column_stride) {
    using Row = Factors<T, COLUMNS>;
    constexpr int TILE = 32 * ROWS, CELLS = TILE * COLUMNS;
    constexpr int UNROLL = (IN_FLIGHT<T, COLUMNS> + ROWS - 1) / ROWS;
    const int tiles = (n + TILE - 1) / TILE;
    const int tile = blockIdx.x % tiles, column = blockIdx.x / tiles * COLUMNS;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    z += column * stride;
    columns -= column;

    const int64 share = (begin[tile + 1] - begin[tile] + warps - 1) / warps;
    const int64 own = begin[tile] + warp * share;
    const int64 end = own + share < begin[tile + 1] ? own + share : begin[tile + 1];
    unsigned char* const memory = scratch + warp * 32 * (sizeof(int4) + sizeof(Row));
    int4* const staged = reinterpret_cast<int4*>(memory);
    Row* const factors = reinterpret_cast<Row*>(memory + 32 * sizeof(int4));

    T sum[ROWS][COLUMNS] = {};
    for (int64 at = own; at < end; at += 32) {
        // A lane without a piece leaves one that covers no row.
        const int4 mine = at + lane < end ? pieces[at + lane] : int4{0, 0, 0, 0};
        Row row;
#pragma unroll
        for (int c = 0; c < COLUMNS; ++c)
            row.at[c] = mine.w && (c == 0 || c < columns) ? z[c * stride + mine.z] : T();
        staged[lane] = mine;
        factors[lane] = row;
        __syncwarp();
        const int count = end - at < 32 ? int(end - at) : 32;
        for (int i = 0; i < count; i += UNROLL) {
            T a[UNROLL][ROWS];
            int first[UNROLL], past[UNROLL];
#pragma unroll
            for (int u = 0; u < UNROLL; ++u) {
                const int4 piece = staged[i + u];
                const T* v = contents + int64(uint64(piece.y) << 32 | unsigned(piece.x));
                first[u] = piece.w & 0xffff;
                past[u] = piece.w >> 16;
                // Lanes off the run load its nearest scalar (the first of the contents where there
                // is no piece): a predicate for each load would be more than there are registers
                // for, and loads would wait for each other.
#pragma unroll
                for (int r = 0; r < ROWS; ++r)
                    a[u][r] = v[larger(smaller(32 * r + lane, past[u] - 1), first[u])];
            }
#pragma unroll
            for (int u = 0; u < UNROLL; ++u) {
                const Row b = factors[i + u];
#pragma unroll
                for (int r = 0; r < ROWS; ++r)
                    // Off the run nothing is added, not even zero times infinity.
                    if (first[u] <= 32 * r + lane && 32 * r + lane < past[u])
#pragma unroll
                        for (int c = 0; c < COLUMNS; ++c) add_product(sum[r][c], a[u][r], b.at[c]);
            }
        }
        __syncwarp();
    }

    // The sums take the place of what all warps have now read.
    __syncthreads();
    T* partial = reinterpret_cast<T*>(scratch);
#pragma unroll
    for (int c = 0; c < COLUMNS; ++c)
#pragma unroll
        for (int r = 0; r < ROWS; ++r)
            partial[warp * CELLS + c * TILE + 32 * r + lane] = sum[r][c];
    __syncthreads();
    for (int cell = threadIdx.x; cell < CELLS; cell += blockDim.x) {
        const int64 row = int64(tile) * TILE + cell % TILE;
        const int c = cell / TILE;
        T total = partial[cell];
        for (int w = 1; w < warps; ++w) add(total, partial[w * CELLS + cell]);
        if (row < n && c < columns) y[row * row_stride + (column + c) * column_stride] = total;
    }
}
