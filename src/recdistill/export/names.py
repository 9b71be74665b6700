"""Names of an export's files and of its graphs' inputs, for those who write them and for those who serve them."""

WEIGHTS, INFO = "model.safetensors", "model.json"
USERS, ITEMS, HISTORIES = "users.parquet", "items.parquet", "histories.parquet"
WORDS, NUMBERS = "vocabularies.parquet", "numbers.json"
GRAPH, ENCODER, VECTORS, SCALES = "model.onnx", "encoder.onnx", "items.npy", "items.scale.npy"
QUERY, SEEN = "query", "seen"
