"""Videos made worse in known ways: what cameras, codecs and platforms do to them.

Changes are made to decoded frames before faces are cropped (`applying`), by recipes of five levels
(`table`): pixels (`pixels`), real encoders (`encoding`), faces hidden on purpose. `stores` makes
prepared stores of them.
"""
