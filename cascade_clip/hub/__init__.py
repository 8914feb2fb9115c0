"""Datasets that lie elsewhere or in another layout: on the Hub, at an address, in `imagefolder` or Parquet form."""
