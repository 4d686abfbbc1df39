"""The ranks of a worker of several processes: rank 0 is the worker that the coordinator knows, the others do what it does.

Beside torch's collectives they talk on pipes of their own, a JSON object a line:

    rank 0 -> rank r    run; after each step go on or not; after load and trial: settled; at last: stop
    rank r -> rank 0    what became of it there: loaded, failed or finished
    rank r -> launcher  the same, as its last words, where the others wait for it in a collective and cannot listen

A trial that fails in one rank is over in all. Where all ranks hear of it (each has failed, or was done) the group lives on;
where one of them does not within a few seconds it is stuck in a collective, and the group ends with the first one's word.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import select
import signal
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, TypeAdapter

from autoopt.records import Outcome, Record, TrialResult
from autoopt.trials.failures import load_failure
from autoopt.trials.merge import failed_of, one_failure, one_result
from autoopt.trials.protocol import Failed, Finished, Lines, Load, Loaded, Run, Stop, encode

if TYPE_CHECKING:
    from autoopt.trials.serve import Channel

_SETTLE_SECONDS = 3.0
"""So long a rank whose trial failed waits to hear from the others before it takes them for stuck."""

Said = Loaded | Failed | Finished


class Go(Record):
    """After a step: whether there is another."""

    kind: Literal["go"] = "go"
    on: bool


class Settled(Record):
    """Rank 0 has heard from all."""

    kind: Literal["settled"] = "settled"


class Word(Record):
    """What became of a load or a trial in one rank, and when (seconds of the machine's clock)."""

    kind: Literal["word"] = "word"
    rank: int
    at: float
    said: Annotated[Loaded | Failed | Finished, Field(discriminator="kind")]


Line = Annotated[Run | Stop | Go | Settled | Word, Field(discriminator="kind")]
_LINES: TypeAdapter[Run | Stop | Go | Settled | Word] = TypeAdapter(Line)


class Ends:
    """The pipes of a group, made before its ranks are forked."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.down = [os.pipe() for _ in range(size)]
        self.up = [os.pipe() for _ in range(size)]
        self.words = os.pipe()

    def last_words(self) -> Failed | Finished | None:
        """What the first rank that gave up has said, with its number; in the launcher, after the ranks are gone."""
        os.set_blocking(self.words[0], False)
        with contextlib.suppress(BlockingIOError):
            for line in Lines().feed(os.read(self.words[0], 1 << 20)):
                words = _LINES.validate_json(line)
                if isinstance(words, Word) and not isinstance(words.said, Loaded):
                    return failed_of(words.said, f"rank {words.rank}: ")
        return None

    def mine(self, rank: int) -> Peers:
        """The ends of one rank; all others are closed in it."""
        keep = (
            {self.words[1]}
            | ({w for _, w in self.down} | {r for r, _ in self.up} if rank == 0 else set())
            | ({self.down[rank][0], self.up[rank][1]} if rank else set())
        )
        for pipe in (*self.down, *self.up, self.words):
            for end in pipe:
                if end not in keep:
                    os.close(end)
        if rank:
            return Peers(rank, [self.down[rank][0]], [self.up[rank][1]], self.words[1])
        return Peers(0, [r for r, _ in self.up[1:]], [w for _, w in self.down[1:]], self.words[1])


class Peers:
    """The other ranks, as one of them talks to them: rank 0 with all, each other one with rank 0."""

    def __init__(self, rank: int, read: list[int], write: list[int], words: int) -> None:
        self.rank = rank
        self._read, self._write, self._last = read, write, words
        self._lines = [Lines() for _ in read]
        self._waiting: list[list[Record]] = [[] for _ in read]
        # A loader process forked by the user's code would otherwise keep the pipes open.
        os.register_at_fork(after_in_child=self._forget)

    def tell(self, message: Record) -> None:
        """One message to each."""
        for end in self._write:
            data = memoryview(encode(message))
            while data:
                data = data[os.write(end, data) :]

    def hear(self, index: int = 0, within: float | None = None) -> Record | None:
        """The next message of one of them, waited for; None where it does not come in time. A peer that is gone ends us."""
        deadline = None if within is None else time.monotonic() + within
        while not self._waiting[index]:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not select.select([self._read[index]], [], [], left)[0]:
                return None
            data = os.read(self._read[index], 65536)
            if not data:
                os._exit(1)
            self._waiting[index] += [_LINES.validate_json(line) for line in self._lines[index].feed(data)]
        return self._waiting[index].pop(0)

    def over(self, cancelled: Callable[[], bool] = lambda: False) -> bool:
        """After a step: whether the trial is to end there. Rank 0 asks `cancelled`, and tells the others."""
        if self.rank == 0:
            on = not cancelled()
            self.tell(Go(on=on))
            return not on
        told = self.hear()
        return not (isinstance(told, Go) and told.on)

    def settle(self, mine: Said, *, failed: bool) -> list[Word]:
        """What became of it in all ranks, by rank, in rank 0; in another one its own word alone.

        Where this rank failed and the others are not heard of in time they are stuck: this ends the process, and with it
        the group. So it does where one of them has given up meanwhile.
        """
        word = Word(rank=self.rank, at=time.monotonic(), said=mine)
        within = _SETTLE_SECONDS if failed else None
        if self.rank:
            self.tell(word)
            if not isinstance(self.hear(within=within), Settled):
                self._give_up(word)
            self.tell(Settled())
            return [word]
        told, deadline = [word], time.monotonic() + _SETTLE_SECONDS
        for index in range(len(self._read)):
            left = max(0.0, deadline - time.monotonic()) if failed else None
            answer = self.hear(index, left)
            if not isinstance(answer, Word):
                self._give_up(word)
            else:
                told.append(answer)
        self.tell(Settled())
        for index in range(len(self._read)):  # a rank that gave up just before it was heard is gone now
            self.hear(index)
        return told

    def _give_up(self, word: Word) -> None:
        if not isinstance(word.said, Loaded):
            # Less than what a pipe takes at once: lines of two ranks do not mix.
            os.write(self._last, encode(word.model_copy(update={"said": _short(word.said)})))
        os._exit(1)  # not by way of torch's destructors, which wait for the others too

    def _forget(self) -> None:
        for end in (*self._read, *self._write, self._last):
            with contextlib.suppress(OSError):
                os.close(end)
        self._read, self._write = [], []


def attend(request: Load, commands: int, replies: int, ends: Ends) -> None:
    """The life of a rank; the launcher runs it in each of the processes that it forks."""
    from autoopt.trials.serve import Channel

    faulthandler.disable()  # the launcher's, which is not for its children, as its other handlers
    for inherited in (signal.SIGABRT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(inherited, signal.SIG_DFL)
    faulthandler.enable()
    rank = int(os.environ["RANK"])
    peers = ends.mine(rank)
    mine = request.model_copy(update={"device": request.ranks[rank]})
    if rank == 0:
        _lead(mine, Channel(commands, replies), peers)
    else:
        os.close(commands)
        os.close(replies)
        _follow(mine, peers)


def _lead(request: Load, channel: Channel, peers: Peers) -> None:
    from autoopt.trials.serve import load, trial

    engine, report, error = load(request)
    said = Loaded(report=report) if error is None else Failed.of(load_failure(error, request.target))
    told = peers.settle(said, failed=error is not None)
    failures = [(word.at, word.rank, word.said) for word in told if isinstance(word.said, Failed)]
    if failures or engine is None:
        channel.send(one_failure(failures, len(told)))
        peers.tell(Stop())
        return
    channel.send(said)
    while isinstance(command := channel.receive(), Run):
        peers.tell(command)
        over = partial(peers.over, partial(channel.cancelled, command.spec.id))
        result = trial(engine, command.spec, request.slot, over, channel.send)
        answers = peers.settle(Finished(result=result), failed=_failed(result))
        merged = one_result(
            [(word.at, word.said.result) for word in answers if isinstance(word.said, Finished)]
        )
        channel.send(Finished(result=merged))
        if merged.outcome is Outcome.OUT_OF_MEMORY:
            break  # what still holds memory is not known: a fresh group takes over
    peers.tell(Stop())
    engine.close()


def _follow(request: Load, peers: Peers) -> None:
    from autoopt.trials.serve import load, trial

    engine, _, error = load(request)
    said = Loaded() if error is None else Failed.of(load_failure(error, request.target))
    peers.settle(said, failed=error is not None)
    while engine is not None and isinstance(command := peers.hear(), Run):
        result = trial(engine, command.spec, request.slot, peers.over)
        peers.settle(Finished(result=result), failed=_failed(result))
    if engine is not None:
        engine.close()


def _failed(result: TrialResult) -> bool:
    return result.outcome not in (Outcome.COMPLETED, Outcome.DIVERGED, Outcome.CANCELLED)


def _short(said: Failed | Finished) -> Failed | Finished:
    """The same without what may be long."""
    if isinstance(said, Failed):
        return said.model_copy(update={"trace": said.trace[-1500:], "message": said.message[:1500]})
    result = said.result.model_copy(update={"curve": [], "message": said.result.message[:1500]})
    return said.model_copy(update={"result": result})
