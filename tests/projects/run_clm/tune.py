"""What autoopt needs of run_clm.py: `autoopt profile tune.py:make_trainer -- --train_file text.txt --output_dir out`."""

import run_clm


def make_trainer(args):
    return run_clm.make_trainer(*run_clm.parse(args))
