"""See inside a model: tokens of every block, how alike layers are (CKA), patch similarity and masks of stages."""
