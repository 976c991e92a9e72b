"""Compiled kernels for a CPU, written as LLVM instructions through Numba.

llvm           instructions on whole vectors, loops and sums
run_cells      cells of interval factors, made by a compiled loop
row_groups     factors cut into groups of rows that registers hold
copies         copies between buffers and arrays
column_loops   compiled loops for many columns
words          words of memory that threads share, read and written in one step
vector_loops   compiled loops for one vector
vector_steps   compiled products with one vector, shared out among threads
block_loops    compiled loops over blocks on listed rows and columns
slice_loops    compiled loops over entries in slices of rows, for one vector
window_loops   compiled loops over windows of a vector
rectangle_loops   compiled loops over rectangles of a rank or dense
rectangle_panels  products of rectangles with column groups, in registers
rectangle_picks   single entries of rectangles, in compiled loops
rectangles     products of rectangles, shared out among threads
columns        products of factors and matrices with many columns
vectors        products of factors with one vector
slices         products of single entries with one vector
blocks         products by blocks on listed rows and columns
threads        the thread pool
blas_threads   BLAS held to one thread, for work of the pool that calls it
crew           helpers for products of single vectors, which wait in compiled code
torch_op       products of many columns on PyTorch's CPU tensors, as operators
torch_blocks   products by blocks on listed rows and columns, as operators
torch_kernel   the choice among operators, direct calls and panels on such tensors
torch_runs     products by blocks whose runs move while they are learned
"""
