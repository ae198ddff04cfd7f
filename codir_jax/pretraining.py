class Pretraining:
    pass
