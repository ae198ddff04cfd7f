"""Sentences of several lengths laid end to end in lines of one length: half of the positions would be padding.

A batch that tells sentences from noise needs all lengths mixed, so its sentences cannot be grouped by length. A
recurrent model starts anew where a sentence begins, so several of them can stand in a line, and a line is as long as
the longest sentence may be: no more steps of the recurrence, and fewer lines in each.
"""

from __future__ import annotations

import numpy as np


def packed(lengths: np.ndarray, width: int, multiple: int = 1) -> np.ndarray:
    """Returns which token stands where: int32 [lines, width], t * width + i for token i of sentence t; -1 is padding.

    Best fit, longest first (Johnson, 1974): a sentence goes where the least room is left behind it.

    Args:
      lengths: int [n], tokens of each sentence, at most `width`.
      multiple: of which the lines are a number.
    """
    with_room: list[list[int]] = [[] for _ in range(width + 1)]  # lines by the room that they have left
    is_open = 0  # bit r: there is a line with room r
    line_of, begin_of, num_lines = np.zeros(len(lengths), np.int64), np.zeros(len(lengths), np.int64), 0
    for text in np.argsort(-lengths, kind="stable"):
        need = int(lengths[text])
        if enough := is_open >> need:
            room = need + (enough & -enough).bit_length() - 1
            line = with_room[room].pop()
            if not with_room[room]:
                is_open ^= 1 << room
        else:
            room, line = width, num_lines
            num_lines += 1
        line_of[text], begin_of[text] = line, width - room
        with_room[room - need].append(line)
        is_open |= 1 << (room - need)
    found = np.full((-(-num_lines // multiple) * multiple, width), -1, np.int32)
    inside = np.arange(width) < np.asarray(lengths)[:, None]
    text, token = np.nonzero(inside)
    found[line_of[text], begin_of[text] + token] = text * width + token
    return found


def even_multiple(num_texts: int, parts: int) -> int:
    """Returns of what the lines of a batch are a multiple, so that a run has few shapes: a tenth of its sentences.

    Args:
      parts: devices times microbatches, that split the lines evenly.
    """
    return max(num_texts // 10 // parts, 1) * parts
