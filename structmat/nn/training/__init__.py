"""Rules of a training: each changes structure after an optimizer step.

sigma               `SigmaSchedule`
budget_projection   `BudgetProjection`
shrinkage           `SoftThreshold`, `MeanShrink`
anneal              `Anneal`
for_trainers        rules for Hugging Face and Lightning
parameter_groups    groups of parameters for an optimizer
contents_rates      learning rates of contents by rule

A rule is composed of these, and inherits from nothing:

optimizers          optimizers behind wrappers, and the parameters that they train
step_hook           counts optimizers' steps, and pins widths and locations against them
widths              widths of a whole network, their cost, and its cap
projection          widths projected onto a budget
projection_apart    the same on a device, without a value read
one_price           caps on the cost of layers by one price of a multiplication
weight_grad         recorded gradients of dense weights
revive              blocks that have lost a side restart
"""
