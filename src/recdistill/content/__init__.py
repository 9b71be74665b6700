"""What items are made of: texts and pictures, and the vectors that large encoders make of them."""
