"""The published data sets: their sources, checksums, and folders in the data root."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lmsa_bench.download import checksum
from lmsa_bench.errors import UserError


@dataclass(frozen=True)
class Archive:
    """A published file: a tar to unpack, or a file to use as it is."""

    url: str
    members: tuple[str, ...]  # the files or folders in it that belong in the data set's folder
    size: int | None = None  # bytes
    checksums: Mapping[str, str] = field(default_factory=dict)  # "md5" or "sha256" to hex digits
    optional: bool = False  # no task needs it by default

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[1]


@dataclass(frozen=True)
class DataSet:
    """A data set in its published format; the data root may have any part of it."""

    name: str
    folder: str  # in the data root
    layout: str
    licence: str
    archives: tuple[Archive, ...] = ()
    md5: Mapping[str, str] = field(default_factory=dict)  # of files in the folder, if published
    parts: tuple[str, ...] = ()  # what its tasks read, if there are no public archives
    remedy: str = ""  # how to get it, if there are no public archives
    system_folder: str = ""  # outside the data root, where the same files may be installed

    @property
    def needs(self) -> tuple[str, ...]:
        """The files or folders in the data set's folder that its tasks read by default."""
        return self.parts or tuple(name for a in self.archives if not a.optional for name in a.members)

    def missing(self, root: Path, names: Sequence[str] = ()) -> list[str]:
        """The missing ones of these names, by default of all that its tasks read; see system_folder."""
        folders = [root / self.folder, *([Path(self.system_folder)] if self.system_folder else [])]
        missing = [[name for name in names or self.needs if not (folder / name).exists()] for folder in folders]
        return min(missing, key=len)

    def get(self) -> str:
        """How to get it, for an error message."""
        return self.remedy or f"get it with 'python -m lmsa_bench.data fetch {self.name}'"

    def find(self, root: Path, name: str) -> Path:
        """The path of one of its files or folders; raises UserError if it is missing."""
        path = root / self.folder / name
        if not path.exists():
            raise UserError(f"{self.name}: {path} is missing: {self.get()}")
        return path

    def verified_marker(self, root: Path, archive: Archive) -> Path:
        """An empty file that exists if an unpacked archive had its published checksum."""
        return root / self.folder / f".{archive.name}.verified"

    def was_verified(self, root: Path, name: str) -> bool:
        """Whether a file or folder was unpacked from an archive that had its published checksum."""
        return any(name in a.members and self.verified_marker(root, a).exists() for a in self.archives)

    def checked(self, root: Path, name: str, verify: bool = True) -> Path:
        """The path of a file, whose md5 is the published one if ``verify``; raises UserError."""
        path = self.find(root, name)
        if verify and name in self.md5 and (actual := checksum(path, "md5")) != self.md5[name]:
            raise UserError(
                f"{self.name}: {path}: its md5 is {actual}, expected {self.md5[name]}; for a re-encoded copy run "
                f"'python -m lmsa_bench.data prepare {self.name} --no-verify'"
            )
        return path


COMMON15 = (
    *("gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    *("snow", "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression"),
)
COMMON19 = (*COMMON15, "speckle_noise", "gaussian_blur", "spatter", "saturate")
CORRUPTIONS_3D = (
    *("near_focus", "far_focus", "fog_3d", "flash", "color_quant", "low_light", "xy_motion_blur", "z_motion_blur"),
    *("iso_noise", "bit_error", "h265_abr", "h265_crf"),
)

_CIFAR10_MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
    "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
}
_CIFAR100_MD5 = {
    "train": "16019d7e3df5f24257cddd939b257f8d",
    "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
    "meta": "7973b15100ade9c7d40fb424638fde48",
}
_CIFAR10_C_MD5 = {
    "fog.npy": "7b397314b5670f825465fbcd1f6e9ccd",
    "jpeg_compression.npy": "2b9cc4c864e0193bb64db8d7728f8187",
    "zoom_blur.npy": "6ea8e63f1c5cdee1517533840641641b",
    "speckle_noise.npy": "ef00b87611792b00df09c0b0237a1e30",
    "glass_blur.npy": "7361fb4019269e02dbf6925f083e8629",
    "spatter.npy": "8a5a3903a7f8f65b59501a6093b4311e",
    "shot_noise.npy": "3a7239bb118894f013d9bf1984be7f11",
    "defocus_blur.npy": "7d1322666342a0702b1957e92f6254bc",
    "elastic_transform.npy": "9421657c6cd452429cf6ce96cc412b5f",
    "gaussian_blur.npy": "c33370155bc9b055fb4a89113d3c559d",
    "frost.npy": "31f6ab3bce1d9934abfb0cc13656f141",
    "saturate.npy": "1cfae0964219c5102abbb883e538cc56",
    "brightness.npy": "0a81ef75e0b523c3383219c330a85d48",
    "snow.npy": "bb238de8555123da9c282dea23bd6e55",
    "gaussian_noise.npy": "ecaf8b9a2399ffeda7680934c33405fd",
    "motion_blur.npy": "fffa5f852ff7ad299cfe8a7643f090f4",
    "contrast.npy": "3c8262171c51307f916c30a3308235a8",
    "impulse_noise.npy": "2090e01c83519ec51427e65116af6b1a",
    "pixelate.npy": "0f14f7e2db14288304e1de10df16832f",
    "labels.npy": "c439b113295ed5254878798ffe28fd54",
}
_CIFAR = "https://www.cs.toronto.edu/~kriz"
_IMAGENET_C = "https://zenodo.org/records/2235448/files"
_FASHION = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"

CIFAR10 = DataSet(
    name="cifar10",
    folder="cifar-10-batches-py",
    layout="python batches: 5 x 10,000 training and 10,000 test images of 3x32x32",
    licence="none stated",
    archives=(
        Archive(
            f"{_CIFAR}/cifar-10-python.tar.gz",
            tuple(_CIFAR10_MD5),
            170_498_071,
            {"md5": "c58f30108f718f92721af3b95e74349a"},
        ),
    ),
    md5=_CIFAR10_MD5,
)
CIFAR100 = DataSet(
    name="cifar100",
    folder="cifar-100-python",
    layout="python batches: 50,000 training and 10,000 test images of 3x32x32",
    licence="none stated",
    archives=(
        Archive(
            f"{_CIFAR}/cifar-100-python.tar.gz",
            tuple(_CIFAR100_MD5),
            169_001_437,
            checksums={"md5": "eb9058c3a382ffc7106e4002c42a8d85"},
        ),
    ),
    md5=_CIFAR100_MD5,
)
CIFAR10_C = DataSet(
    name="cifar10_c",
    folder="CIFAR-10-C",
    layout="<corruption>.npy, uint8 (50000, 32, 32, 3): severity 1 to 5, each in CIFAR-10's test order; labels.npy",
    licence="CC BY 4.0",
    archives=(
        Archive(
            "https://zenodo.org/records/2535967/files/CIFAR-10-C.tar",
            tuple(_CIFAR10_C_MD5),
            2_918_471_680,
            {
                "md5": "56bf5dcef84df0e2308c6dcbcbbd8499",
                "sha256": "c72763e101c723b7c507b96205f7e938912a5d587376173b825850cf3cb876a7",
            },
        ),
    ),
    md5=_CIFAR10_C_MD5,
)
IMAGENET_C = DataSet(
    name="imagenet_c",
    folder="ImageNet-C",
    layout="<corruption>/<severity>/<wnid>/*.JPEG, 224x224",
    licence="CC BY 4.0",
    archives=tuple(
        Archive(f"{_IMAGENET_C}/{name}.tar", members, size, {"md5": md5}, optional=name == "extra")
        for name, size, md5, members in (
            ("noise", 22_565_673_785, "e80562d7f6c3f8834afb1ecf27252745", COMMON15[:3]),
            ("blur", 7_112_704_951, "2d8e81fdd8e07fef67b9334fa635e45c", COMMON15[3:7]),
            ("weather", 12_797_438_995, "33ffea4db4d93fe4a428c40a6ce0c25d", COMMON15[7:11]),
            ("digital", 7_757_510_705, "89157860d7b10d5797849337ca2e5c03", COMMON15[11:]),
            ("extra", 15_789_490_144, "d492dfba5fc162d8ec2c3cd8ee672984", COMMON19[15:]),
        )
    ),
)
IMAGENET_3DCC = DataSet(
    name="imagenet_3dcc",
    folder="ImageNet-3DCC",
    layout="<corruption>/<severity>/<wnid>/*, 224x224",
    licence="CC BY-NC 4.0",
    archives=tuple(
        Archive(f"https://datasets.epfl.ch/3dcc/imagenet_3dcc/{name}.tar.gz", (name,)) for name in CORRUPTIONS_3D
    ),
)
IMAGENET = DataSet(
    name="imagenet",
    folder="imagenet",
    layout="train/<wnid>/*.JPEG and val/<wnid>/*.JPEG",
    licence="non-commercial research, after registration",
    parts=("train", "val"),
    remedy="put its class folders (registration required) into imagenet/train and imagenet/val of the data folder",
)
FASHION_MNIST = DataSet(
    name="fashion_mnist",
    folder="FashionMNIST/raw",
    system_folder="/usr/share/datasets/fashion-mnist",
    layout="IDX files, gzipped: 60,000 training and 10,000 test images of 1x28x28",
    licence="MIT",
    archives=tuple(
        Archive(f"{_FASHION}/{name}.gz", (f"{name}.gz",), size, {"md5": md5})
        for name, size, md5 in (
            ("train-images-idx3-ubyte", 26_421_880, "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
            ("train-labels-idx1-ubyte", 29_515, "25c81989df183df01b3e8a0aad5dffbe"),
            ("t10k-images-idx3-ubyte", 4_422_102, "bef4ecab320f06d8554ea6380940ec79"),
            ("t10k-labels-idx1-ubyte", 5_148, "bb300cfdad3c16e7a12a480ee83cd310"),
        )
    ),
)

DATA_SETS = {
    data.name: data for data in (CIFAR10, CIFAR100, CIFAR10_C, IMAGENET, IMAGENET_C, IMAGENET_3DCC, FASHION_MNIST)
}
