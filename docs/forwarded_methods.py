"""An extension of Griffe: the reference shows the methods that `forwarded` makes with the arguments that they take.

The source has them as attributes. The class that makes the calls is `Asynchronous[Client]`, and the names are the same.
"""

from typing import Any

import griffe

RETURNED = {"JobHandle": "AsyncJobHandle", "EditResult": "AsyncEditResult"}
"""What the asynchronous classes return instead."""
MODULES = ("aio", "async_handle", "async_admin")


class ForwardedMethods(griffe.Extension):
    """Replaces the attributes of the asynchronous classes by functions."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        if pkg.name != "diffedit":
            return
        owners = [owner for module in MODULES for owner in pkg[module].classes.values() if not owner.is_alias]
        for owner in owners:
            blocking = pkg[_blocking_class(owner)]
            for name, attribute in list(owner.attributes.items()):
                if isinstance(attribute.value, griffe.ExprCall):
                    owner.set_member(name, _method(attribute, blocking[name]))


def _blocking_class(owner: griffe.Class) -> str:
    """Return the path within the package of the class whose calls this one makes."""
    (base,) = owner.bases
    assert isinstance(base, griffe.ExprSubscript), f"{owner.path} should be a subclass of Asynchronous[...]"
    return owner.module.resolve(str(base.slice)).removeprefix("diffedit.")


def _method(attribute: griffe.Attribute, called: griffe.Function | griffe.Attribute) -> griffe.Function:
    assert attribute.docstring, f"{attribute.path} has no docstring"
    is_function = isinstance(called, griffe.Function)
    returns = str(called.returns if is_function else called.annotation)
    for name, instead in RETURNED.items():
        returns = returns.replace(name, instead)
    method = griffe.Function(
        attribute.name,
        parameters=called.parameters if is_function else griffe.Parameters(griffe.Parameter("self")),
        returns=returns,
        lineno=attribute.lineno,
        endlineno=attribute.endlineno,
    )
    method.labels.add("async")
    full = f"{called.parent.name}.{called.name}"
    text = attribute.docstring.value.replace(f"`{full}`", f"[`{full}`][diffedit.{full}]")
    method.docstring = griffe.Docstring(
        text, parent=method, parser=attribute.docstring.parser, parser_options=attribute.docstring.parser_options
    )
    return method
