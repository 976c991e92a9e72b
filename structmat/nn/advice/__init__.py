"""Advice before a conversion: kinds, starts and budgets worth trying, layer by layer.

observe   inputs and losses of a model that is looked at
trials    quick fits of every kind
advice    rows of advice, and their table
outlook   rows from quick fits
advise    `advise`
"""
