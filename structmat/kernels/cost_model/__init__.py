"""The cost model: time of kernels, of layers and of training steps.

Times are counts of operations multiplied by coefficients in nanoseconds.

prices         counts and coefficients of each kernel on a CPU
devices        the same on devices, with figures by the name of the device
kernel_time    price, counts and figures of one matrix together
coefficients   coefficients measured on this machine, in a file
layers         products by a structure or by its dense weight
steps          training steps by the structure, or by a weight assembled in each
"""
