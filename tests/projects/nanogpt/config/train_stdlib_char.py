# a miniature character-level GPT, good for debugging on a laptop
out_dir = "out-stdlib-char"
eval_interval = 50
eval_iters = 5
log_interval = 10
gradient_accumulation_steps = 1
batch_size = 8
block_size = 32
n_layer = 2
n_head = 2
n_embd = 32
dropout = 0.0
learning_rate = 1e-3
max_iters = 300
lr_decay_iters = 300
min_lr = 1e-4
beta2 = 0.99
warmup_iters = 10
