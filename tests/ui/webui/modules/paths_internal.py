import os

data_path = os.environ["ITERMIX_DATA"]
