"""The choice between kernels.

record      the record of a kernel, and the choice among records
table       the table of kernels: their records, and their bindings
contexts    contexts that force a kernel, or watch which ones multiply
factored    matrices made of sparse factors, and their products by any kernel
calibrate   measuring coefficients on this machine
calibrate_devices   the same on a device, by CuPy
"""
