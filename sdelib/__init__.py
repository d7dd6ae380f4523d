"""Score-based generative modelling through SDEs: the library behind the book.

Import from its modules. In the order in which data flow through them: ``sde``; ``mixtures``,
``data``; ``score``, ``networks``, ``residual``; ``training`` and ``checkpoints``, and what they led
to, ``pretrained``; ``steps``, ``multistep``, ``grids``, ``samplers``; ``quadrature``, ``laws``,
``likelihood``; ``guidance``; ``metrics``. ``plotting`` serves the chapters.
"""
