r"""Selection rules: is a series for us, and why.

The first rule whose conditions all hold decides. A condition names a DICOM keyword at the top level
of the data set, or one of two facts of ours: CallingAETitle, InstanceCount. How values compare:

- An attribute that is absent or empty fulfills nothing but ``present = false``.
- ``equals``, ``one_of`` and ``matches`` look at the whole value; several values are joined by
  backslashes as in the file, so that ``ImageType = "ORIGINAL\PRIMARY"`` means exactly these two.
- ``contains`` is true if any one of the values is exactly the text.
- ``min`` and ``max`` hold if the attribute has numbers only and all of them are within.
- A number in a rule compares as a number (5 equals "5.0"), a text as text, case and all.
"""

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from pydicom.datadict import dictionary_VR, keyword_dict, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from config.rules import Condition, RuleAction, RuleSettings, Scalar
from dicom_io.values import read_value

CALLING_AE_TITLE = "CallingAETitle"
INSTANCE_COUNT = "InstanceCount"
NO_RULE_MATCHED = "no rule matched"

_FACTS = (CALLING_AE_TITLE, INSTANCE_COUNT)
_VRS_WITHOUT_TEXT = frozenset({"SQ", "OB", "OW", "OD", "OF", "OL", "OV", "UN", "OB or OW"})
_PAST_ACTION = {RuleAction.PROCESS: "processed", RuleAction.SKIP: "skipped"}

_Values = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What the rules say about a series."""

    action: RuleAction
    rule: str
    """Name of the rule that decided; empty when none matched."""
    reason: str
    """In words: which rule, its reason, and which of its conditions held. No attribute values."""


@dataclass(frozen=True, kw_only=True)
class ConditionTrial:
    """How one condition of a rule fared."""

    keyword: str
    wording: str
    """What it asks for, as "is 'CT'"."""
    held: bool
    found: str
    """The value, several joined by backslashes; empty where there is none."""


@dataclass(frozen=True, kw_only=True)
class RuleTrial:
    """How one rule fared."""

    rule: str
    conditions: tuple[ConditionTrial, ...]
    """Each of them, also those after one that did not hold."""

    @property
    def matched(self) -> bool:
        """Whether all conditions held."""
        return all(condition.held for condition in self.conditions)

    @property
    def why(self) -> str:
        """The conditions that held, or the first that did not with the value found."""
        for one in self.conditions:
            if not one.held:
                return f"{one.keyword} {one.wording} does not hold, found {one.found!r}"
        held = [f"{one.keyword} {one.wording}" for one in self.conditions]
        return ", ".join(held) or "always"


def check_rules(rules: Sequence[RuleSettings]) -> None:
    """Refuse rules that can never work.

    Raises
    ------
    ValueError
        If a keyword is unknown (the message names the nearest one), a regular expression is
        malformed, a value is compared that has no text, or two rules have one name.
    """
    names = [rule.name for rule in rules]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"rule {name!r}: there is more than one rule of this name")
    for rule in rules:
        for keyword, condition in rule.when.items():
            try:
                _check_condition(keyword, _as_condition(condition))
            except ValueError as error:
                raise ValueError(f"rule {rule.name!r}: {error}") from error


def decide(
    rules: Sequence[RuleSettings],
    attributes: Dataset,
    *,
    calling_ae_title: str = "",
    instance_count: int = 0,
) -> Decision:
    """Return what the first matching rule says; no match means skip.

    Parameters
    ----------
    rules
        In order of precedence.
    attributes
        Data set of one instance of the series, pixel data not needed.
    calling_ae_title
        AE title of the sender.
    instance_count
        Instances of the series that are here.
    """
    facts = _facts(calling_ae_title, instance_count)
    for rule in rules:
        trial = _try_rule(rule, attributes, facts)
        if trial.matched:
            verdict = f"{_PAST_ACTION[rule.action]} by rule '{rule.name}'"
            sentence = f"{verdict}: {rule.reason}" if rule.reason else verdict
            return Decision(action=rule.action, rule=rule.name, reason=f"{sentence} ({trial.why})")
    return Decision(action=RuleAction.SKIP, rule="", reason=NO_RULE_MATCHED)


def may_process(
    rules: Sequence[RuleSettings],
    attributes: Dataset,
    *,
    calling_ae_title: str = "",
    instance_count: int | None = None,
) -> bool:
    """Say whether a series may come to be processed, by what an archive tells of it.

    What it does not tell is open: a rule that asks for it may match or not. So `decide` processes
    no series for which this is false.

    Parameters
    ----------
    rules
        In order of precedence.
    attributes
        The match of a query.
    calling_ae_title
        AE title of the archive.
    instance_count
        Instances of the series; none if it is not told.
    """
    facts = _facts(calling_ae_title, instance_count)
    for rule in rules:
        told = {
            keyword: expected
            for keyword, expected in rule.when.items()
            if (facts[keyword] if keyword in facts else _read_values(attributes, keyword))
        }
        if _try_rule(rule.model_copy(update={"when": told}), attributes, facts).matched:
            if rule.action is RuleAction.PROCESS:
                return True
            if told == rule.when:
                return False
    return False


def explain(
    rules: Sequence[RuleSettings],
    attributes: Dataset,
    *,
    calling_ae_title: str = "",
    instance_count: int = 0,
) -> list[RuleTrial]:
    """Try every rule, also those after the one that decides.

    For the screen of an administrator, not for logs: it quotes values of the data set.
    """
    facts = _facts(calling_ae_title, instance_count)
    return [_try_rule(rule, attributes, facts) for rule in rules]


def _facts(calling_ae_title: str, instance_count: int | None) -> dict[str, _Values]:
    return {
        CALLING_AE_TITLE: (calling_ae_title,) if calling_ae_title else (),
        INSTANCE_COUNT: () if instance_count is None else (str(instance_count),),
    }


def describe_conditions(rule: RuleSettings) -> list[str]:
    """Give each condition of a rule in words; none means that it always decides."""
    return [f"{one.keyword} {one.wording}" for one in _try_rule(rule, Dataset(), {}).conditions]


def names_sender(rule: RuleSettings, calling_ae_title: str) -> bool:
    """Say whether a rule has a condition on the sender, and a sender of this name fulfills it."""
    condition = rule.when.get(CALLING_AE_TITLE)
    if condition is None:
        return False
    return all(holds for _, holds in _tests(_as_condition(condition), (calling_ae_title,)))


def _try_rule(rule: RuleSettings, attributes: Dataset, facts: Mapping[str, _Values]) -> RuleTrial:
    conditions = []
    for keyword, expected in rule.when.items():
        values = facts[keyword] if keyword in facts else _read_values(attributes, keyword)
        conditions += [
            ConditionTrial(keyword=keyword, wording=wording, held=held, found="\\".join(values))
            for wording, held in _tests(_as_condition(expected), values)
        ]
    return RuleTrial(rule=rule.name, conditions=tuple(conditions))


def _as_condition(expected: Scalar | Condition) -> Condition:
    return expected if isinstance(expected, Condition) else Condition(equals=expected)


def _tests(condition: Condition, values: _Values) -> Iterable[tuple[str, bool]]:
    """Yield each part of a condition in words, and whether it holds."""
    whole = "\\".join(values)
    if condition.present is not None:
        yield "is present" if condition.present else "is absent", condition.present == bool(values)
    if condition.equals is not None:
        yield f"is {condition.equals!r}", _equals(condition.equals, values)
    if condition.one_of is not None:
        options = ", ".join(repr(option) for option in condition.one_of)
        yield f"is one of {options}", any(_equals(option, values) for option in condition.one_of)
    if condition.matches is not None:
        found = bool(values) and re.search(condition.matches, whole) is not None
        yield f"matches {condition.matches!r}", found
    if condition.contains is not None:
        yield f"contains {condition.contains!r}", condition.contains in values
    numbers = _as_numbers(values)
    if condition.min is not None:
        yield f"is at least {condition.min:g}", bool(numbers) and min(numbers) >= condition.min
    if condition.max is not None:
        yield f"is at most {condition.max:g}", bool(numbers) and max(numbers) <= condition.max


def _equals(expected: Scalar, values: _Values) -> bool:
    if isinstance(expected, str):
        return bool(values) and "\\".join(values) == expected
    return _as_numbers(values) == [float(expected)]


def _as_numbers(values: _Values) -> list[float]:
    """Return all values as numbers, or none when one of them is not a number."""
    try:
        return [float(value) for value in values]
    except ValueError:
        return []


def _read_values(attributes: Dataset, keyword: str) -> _Values:
    """Return the values of an attribute as text without outer spaces; none when it is empty.

    What cannot be decoded counts as absent. pydicom's remarks on values are kept off the log, for
    they quote the values.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = read_value(attributes, keyword)
    if value is None:
        return ()
    parts = value if isinstance(value, MultiValue) else [value]
    texts = tuple(str(part).strip(" \0") for part in parts)
    return texts if any(texts) else ()


def _check_condition(keyword: str, condition: Condition) -> None:
    if keyword not in _FACTS:
        _check_keyword(keyword, condition)
    if any(isinstance(value, bool) for value in (condition.equals, *(condition.one_of or ()))):
        raise ValueError(
            f"{keyword} is compared with true or false, which no attribute is; "
            f"use {keyword} = {{ present = true }}"
        )
    if condition.matches is not None:
        try:
            re.compile(condition.matches)
        except re.error as error:
            raise ValueError(
                f"{keyword} matches {condition.matches!r}, not a regular expression: {error}"
            ) from error


def _check_keyword(keyword: str, condition: Condition) -> None:
    tag = tag_for_keyword(keyword)
    if tag is None:
        known = [*_FACTS, *keyword_dict]
        nearest = get_close_matches(keyword, known, n=1, cutoff=0.0)[0]
        raise ValueError(f"{keyword!r} is not a DICOM keyword; did you mean {nearest!r}?")
    only_presence = condition.model_fields_set <= {"present"}
    if dictionary_VR(tag) in _VRS_WITHOUT_TEXT and not only_presence:
        raise ValueError(f"{keyword} has no text to compare; only 'present' works on it")
