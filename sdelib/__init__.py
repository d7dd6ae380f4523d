"""Score-based generative modelling through SDEs: the library behind the book.

Import from its modules. In the order in which data flow through them: ``sde``; ``mixtures``,
``data``; ``score``, ``guidance``; ``steps``, ``samplers``; ``laws``, ``likelihood``; ``networks``,
``training``, ``learned``; ``metrics``. ``plotting`` serves the chapters, ``_checks`` and
``_guard`` all of them.
"""

__version__ = "0.2.0"
