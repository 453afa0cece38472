"""What a training changed: spectra of tuned minus base, judged against rounding and a null.

The rooms in the order of imports, each of which points to an earlier one:

- ``plain``: frozen records to plain JSON data and back;
- ``reading``: files and folders as named tensors;
- ``pairing``: two models side by side, one pair of tensors at a time;
- ``decomposition``: one pass over a pair, singular values, directions;
- ``noise``: rounding, and matrices of independent noise;
- ``judgement``: the verdict on each tensor, kept as it is made;
- ``comparison``: two updates of one base;
- ``report``: summaries, tables, pictures;
- ``request``, ``spectrum``: the question and the function that answers it.
"""
