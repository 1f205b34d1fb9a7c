"""The stubs of the native module say what is there: the same names, the same parameters."""

import ast
import inspect
from pathlib import Path

import slipring
from slipring import _native

STUBS = Path(slipring.__file__).with_name("_native.pyi")
# What the stubs may leave out: it is Python's own, or has a default in `object`.
IMPLIED = {"__new__", "__repr__", "__doc__", "__module__"}
# The buffer protocol has no names in Python before 3.12.
BUFFER = {"__buffer__", "__release_buffer__"}


def parameters(function: ast.FunctionDef) -> list[str]:
    found = function.args
    names = [one.arg for one in found.posonlyargs + found.args]
    names += [found.vararg.arg] if found.vararg else []
    names += [one.arg for one in found.kwonlyargs]
    names += [found.kwarg.arg] if found.kwarg else []
    return [name for name in names if name not in ("self", "cls")]


def test_the_stubs_name_what_is_there() -> None:
    tree = ast.parse(STUBS.read_text())
    named = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    there = {name for name in vars(_native) if not name.startswith("_")}
    assert set(named) == there
    for name, node in named.items():
        if isinstance(node, ast.FunctionDef):
            assert parameters(node) == list(inspect.signature(getattr(_native, name)).parameters), name
            continue
        found = getattr(_native, name)
        members = {one.name: one for one in node.body if isinstance(one, ast.FunctionDef)}
        assert {member for member in vars(found)} - IMPLIED - BUFFER == set(members) - IMPLIED - BUFFER, name
        for member, stub in members.items():
            if member.startswith("__"):
                continue
            is_property = any(isinstance(one, ast.Name) and one.id == "property" for one in stub.decorator_list)
            attribute = inspect.getattr_static(found, member)
            assert is_property == inspect.isgetsetdescriptor(attribute), f"{name}.{member}"
            if not is_property:
                signature = inspect.signature(getattr(found, member))
                assert [one for one in signature.parameters if one != "self"] == parameters(stub), f"{name}.{member}"
                defaults = {one.default for one in signature.parameters.values()}
                assert ... not in defaults, f"help of {name}.{member}"


def test_all_that_is_exported_exists_and_is_documented() -> None:
    for module in (slipring, slipring.rpc):
        for name in module.__all__:
            assert (getattr(module, name).__doc__ or "").strip(), name
    assert Path(slipring.__file__).with_name("py.typed").exists()
