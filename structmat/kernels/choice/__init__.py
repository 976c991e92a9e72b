"""The choice between kernels.

packages    optional packages: present, importable
record      the record of a kernel
table       the table of kernels: their records, and the default where no times are known
factored    matrices made of sparse factors, and their products by any kernel
calibrate   measuring coefficients on this machine
"""
