"""Score-based generative modelling through SDEs: the library behind the book.

Import from its modules, in the order in which data flow through them: ``sde``, ``data``, ``score``, ``networks``,
``training``, ``samplers``, ``laws``, ``likelihood``, ``guidance``, ``metrics``; ``plotting`` serves the chapters.
"""
