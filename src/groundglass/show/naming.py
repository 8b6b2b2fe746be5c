"""Files and ids on pages that leave the house: without patients' identifiers."""

from __future__ import annotations

import re
from collections.abc import Sequence

from groundglass.case import Case


class Names:
    """Files and ids as the page prints them: patients' identifiers in them become numbers, unless asked for."""

    def __init__(self, cases: Sequence[Case], identifiers: bool) -> None:
        patients = dict.fromkeys(case.patient for case in cases if case.patient)
        self._numbers = {} if identifiers else {patient: f"patient-{n}" for n, patient in enumerate(patients, start=1)}
        found = {
            plain: hidden
            for case in cases
            for plain in (case.file, case.id)
            if (hidden := self._hidden(plain, case.patient)) != plain
        }
        # The longest first, so that no name is replaced within another.
        self._plain = sorted(found.items(), key=lambda item: -len(item[0]))

    def file(self, case: Case) -> str:
        return self._hidden(case.file, case.patient)

    def place(self, case: Case) -> str:
        """File and row."""
        file = self.file(case)
        return file if case.row is None else f"{file} row {case.row}"

    def text(self, text: str) -> str:
        """A message, with the files and ids in it as `place` prints them."""
        for plain, hidden in self._plain:
            if plain in text:
                text = text.replace(plain, hidden)
        for patient, number in self._numbers.items():
            # A short identifier, or a few digits, may be a word or a count.
            if patient in text and len(patient) > (3 if patient.isdecimal() else 2):
                text = _replaced(text, patient, number)
        return text

    def _hidden(self, text: str, patient: str | None) -> str:
        if patient is None or patient not in self._numbers:
            return text
        return _replaced(text, patient, self._numbers[patient])


def _replaced(text: str, patient: str, number: str) -> str:
    whole = re.sub(rf"(?<![0-9A-Za-z]){re.escape(patient)}(?![0-9A-Za-z])", number, text)
    return text.replace(patient, number) if whole == text and len(patient) > 2 else whole
