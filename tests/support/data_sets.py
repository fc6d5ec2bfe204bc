"""Data sets as torchvision and Hugging Face shape them, without these packages."""

from torch.utils.data import Dataset, IterableDataset


class Image:
    """The feature of a column of images, known by its name."""


class ClassLabel:
    """The feature of a column of classes, known by its name."""

    def __init__(self, names):
        self.names = names


class Value:
    """The feature of any other column."""


class Rows:
    """A data set of Hugging Face: rows are dictionaries, and a name gives a column."""

    def __init__(self, columns, features):
        self._columns, self.features = columns, features
        self.read = []

    def __len__(self):
        return len(next(iter(self._columns.values())))

    def __getitem__(self, key):
        if isinstance(key, str):
            return list(self._columns[key])
        if not 0 <= key < len(self):
            raise IndexError(key)
        self.read.append(key)
        return {name: column[key] for name, column in self._columns.items()}


def hugging_face(images, labels=None, names=None):
    """A data set with a column ``image``, and one of classes if there are labels."""
    columns, features = {"id": list(range(len(images))), "image": images}, {"id": Value(), "image": Image()}
    if labels is not None:
        columns["label"], features["label"] = labels, ClassLabel(names) if names else Value()
    return Rows(columns, features)


class Pictures(Dataset):
    """A data set as torchvision's: pairs of an image and a class."""

    def __init__(self, images, labels=None, classes=None, transform=None):
        self.images, self.labels, self.transform = images, labels, transform
        if classes is not None:
            self.classes = classes

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = self.images[index] if self.transform is None else self.transform(self.images[index])
        return image if self.labels is None else (image, self.labels[index])


class Stream(IterableDataset):
    """A data set that can only be iterated."""

    def __init__(self, items):
        self.items = items

    def __iter__(self):
        return iter(self.items)
