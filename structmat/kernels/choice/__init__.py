"""The choice between kernels.

table       one record a kernel: what it needs, and how it multiplies
factored    matrices made of sparse factors, and their products by any kernel
calibrate   measuring kernels on this machine
"""
