"""What people write into the form of the page *Pull*, which is kept nowhere."""

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from starlette.datastructures import FormData, UploadFile

from config import AnyPeer, Retrieval, Settings
from node.errors import UnusableList, WrongCall
from node.pull_orders import PullOrder, usual_retrieval
from node.wanted import WantedList, read_list
from node.web.access import Operator
from node.web.errors import Unusable
from storage.states import RetrievalKey

_BETWEEN = re.compile(r"\s*[,;\t]\s*")


async def _read_form(request: Request, visitor: Operator) -> AsyncIterator[FormData]:
    """Read a form with a file, which is gone as soon as the answer is there."""
    del visitor
    async with request.form() as form:
        yield form


FormHere = Annotated[FormData, Depends(_read_form)]


@dataclass(frozen=True, kw_only=True)
class PullForm:
    """The form as it was filled in."""

    peer: str = ""
    key: RetrievalKey = RetrievalKey.ACCESSION
    by: str = ""
    """A value of `Retrieval`; empty means as the settings of the peer say."""
    text: str = ""
    """Of the box."""
    file: bytes = b""

    def read_list(self) -> WantedList:
        """Give what is asked for.

        Raises
        ------
        UnusableList, WrongCall
        """
        text = self.text.strip("\r\n")
        if text.strip() and self.file:
            raise WrongCall("Write the numbers into the box, or choose a file, but not both")
        if self.file:
            return read_list(self.file, self.key)
        # Who writes several into one line of a box means a list.
        lines = text if "\n" in text else _BETWEEN.sub("\n", text)
        listed = read_list(lines.encode(), self.key)
        if not listed.values and not listed.bad:
            raise UnusableList("it is empty; write at least one number, or choose a file")
        return listed

    def find_peer(self, settings: Settings) -> AnyPeer:
        """Give who is asked.

        Raises
        ------
        Unusable
        """
        if self.peer not in settings.peers:
            raise Unusable(f"There is no PACS {self.peer!r} in the settings. Load the page again.")
        return settings.peers[self.peer]

    def make_order(
        self, settings: Settings, wanted: Sequence[tuple[RetrievalKey, str]], *, at_night: bool
    ) -> PullOrder:
        """Make the order of a list.

        Raises
        ------
        Unusable
        """
        peer = self.find_peer(settings)
        try:
            retrieval = Retrieval(self.by) if self.by else usual_retrieval(peer)
        except ValueError:
            raise Unusable(f"There is no way to fetch that is called {self.by!r}.") from None
        return PullOrder(peer=self.peer, wanted=wanted, retrieval=retrieval, at_night=at_night)


def fill_in(form: FormData) -> PullForm:
    """Give the form as it was sent.

    Raises
    ------
    Unusable
    """
    told = {name: str(form.get(name, "")) for name in ("peer", "by", "text")}
    file = form.get("file")
    content = file.file.read() if isinstance(file, UploadFile) else b""
    return PullForm(key=_key(str(form.get("key", "accession"))), file=content, **told)


def ticked(form: FormData) -> list[tuple[RetrievalKey, str]]:
    """Give what was ticked among what a PACS lists.

    Raises
    ------
    Unusable
    """
    pairs = [str(one).partition(":") for one in form.getlist("wanted")]
    return [(_key(key), value) for key, _, value in pairs]


def _key(name: str) -> RetrievalKey:
    try:
        return RetrievalKey(name)
    except ValueError:
        raise Unusable(f"There is no kind of number that is called {name!r}.") from None
