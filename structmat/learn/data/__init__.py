"""Data to learn from: images with labels, and text.

load     `load_data`: a data set by its name
images   images in memory; digits, plain and in noise, and the files of Fashion-MNIST
cifar    CIFAR-10 and CIFAR-100
text     text as bytes
files    finding and opening data files
"""

from structmat.learn.data.images import Images
from structmat.learn.data.load import DATASETS, Dataset, load_data
from structmat.learn.data.text import Text

__all__ = ["DATASETS", "Dataset", "Images", "Text", "load_data"]
