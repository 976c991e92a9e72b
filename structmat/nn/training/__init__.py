"""Rules of a training: what happens to structure after an optimizer step.

schedule            a hook after each step; `SigmaSchedule`
widths              the widths of a whole network, and their projection onto a budget
proximal, capped    what rules share
budget_projection   `BudgetProjection`
shrinkage           `SoftThreshold`, `MeanShrink`
revive              a new start for blocks that have lost a side
run_ends, exchange  ends of runs, and which of them move
pin                 widths and locations that no optimizer moves
edge_search         `EdgeSearch`
for_trainers        rules for Hugging Face and Lightning
"""
