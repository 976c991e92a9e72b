"""Reduction of matrices that have a structure already, by their contents alone.

boxes     rectangles with contents, and the singular values of each
choice    ranks of all rectangles that meet a goal together
runs      rectangles of a GBLR matrix that become one
common    rectangles of several matrices on those of one
terms     the terms of an expression
variants  terms brought together in several ways
rebuild   the matrices that are made of terms again
together  terms reduced together, and factors of products one by one
missed    the norm of what a reduction leaves out
"""
