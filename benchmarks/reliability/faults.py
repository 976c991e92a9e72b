"""Small faults in one function, made by Cosmic Ray: another operator, a number off by one."""

import ast
import difflib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.results import BenchmarkError

#: Faults that are made: other ones of Cosmic Ray repeat these or break annotations.
OPERATORS = (
    "NumberReplacer", "AddNot", "ZeroIterationForLoop", "ReplaceTrueWithFalse",
    "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd", "ReplaceBreakWithContinue",
    "ReplaceContinueWithBreak", "ReplaceUnaryOperator_Delete_USub",
    "ReplaceUnaryOperator_Delete_Not", "ReplaceBinaryOperator_Add_Sub",
    "ReplaceBinaryOperator_Sub_Add", "ReplaceBinaryOperator_Mul_Add",
    "ReplaceBinaryOperator_Div_Mul", "ReplaceBinaryOperator_FloorDiv_Mul",
    "ReplaceBinaryOperator_Mod_Add", "ReplaceComparisonOperator_Lt_LtE",
    "ReplaceComparisonOperator_LtE_Lt", "ReplaceComparisonOperator_Gt_GtE",
    "ReplaceComparisonOperator_GtE_Gt", "ReplaceComparisonOperator_Lt_Gt",
    "ReplaceComparisonOperator_Gt_Lt", "ReplaceComparisonOperator_LtE_GtE",
    "ReplaceComparisonOperator_GtE_LtE", "ReplaceComparisonOperator_Eq_NotEq",
    "ReplaceComparisonOperator_NotEq_Eq", "ReplaceComparisonOperator_Is_IsNot",
    "ReplaceComparisonOperator_IsNot_Is",
)  # fmt: skip


def faulty_texts(path: Path, function: str) -> list[str]:
    """The text of a file with one fault in a function, once for each fault."""
    try:
        from cosmic_ray.mutating import mutate_code
        from cosmic_ray.plugins import get_operator
    except ImportError:
        raise BenchmarkError(
            "cosmic-ray is not installed; install it with pip install cosmic-ray"
        ) from None
    code = path.read_text(encoding="utf-8")
    body, texts = body_of(code, function), []
    for spec in _specs(path):
        if spec.start_pos[0] in body:
            operator = get_operator(spec.operator_name)(**spec.operator_args)
            text = mutate_code(code, operator, spec.occurrence)
            if text is not None and has_fault(code, text):
                texts.append(text)
    return list(dict.fromkeys(texts))


def body_of(code: str, function: str) -> range:
    """Lines of the body of a function, or of a method with its class: ``Class.method``."""
    node: Any = ast.parse(code)
    for name in function.split("."):
        node = next(child for child in node.body if getattr(child, "name", "") == name)
    return range(node.body[0].lineno, node.end_lineno + 1)


def _specs(path: Path) -> Iterator[Any]:
    """Places in a file at which Cosmic Ray can make a fault."""
    from cosmic_ray.commands import init
    from cosmic_ray.work_db import WorkDB

    with tempfile.TemporaryDirectory() as folder:
        database = WorkDB(str(Path(folder) / "work.sqlite"), WorkDB.Mode.create)
        init([path], database, {})
        for item in database.work_items:
            for spec in item.mutations:
                if spec.operator_name.removeprefix("core/") in OPERATORS:
                    yield spec
        database.close()


def has_fault(code: str, faulty: str) -> bool:
    """Tell whether a change is valid and touches more than texts."""
    try:
        return _without_texts(code) != _without_texts(faulty)
    except SyntaxError:
        return False


def _without_texts(code: str) -> str:
    class Blank(ast.NodeTransformer):
        def visit_JoinedStr(self, _: ast.JoinedStr) -> ast.Constant:
            return ast.Constant("")

    return ast.dump(Blank().visit(ast.parse(code)))


def change_of(code: str, faulty: str) -> str:
    """The lines that a fault changes: before, and after an arrow."""
    lines = difflib.unified_diff(code.splitlines(), faulty.splitlines(), n=0, lineterm="")
    changed = [line for line in lines if not line.startswith(("---", "+++", "@@"))]
    before = " ".join(line[1:].strip() for line in changed if line.startswith("-"))
    after = " ".join(line[1:].strip() for line in changed if line.startswith("+"))
    return f"{before} → {after}"
