"""Fine-tuning, prediction and the conversion of weights:
``python -m recipes.finetune`` and its like.
"""
