"""A student in Lightning, on as many devices as there are: `python lightning_loop.py LABELS IMAGES EVAL [EPOCHS]`."""

import sys

import lightning
import torch
from torch.utils.data import DataLoader

from lpqld import ImageSet, LabelSet, ViewDataset, ViewSampler
from lpqld.models import build
from lpqld.training import LabelBatch, parse_schedule

labels, images = LabelSet.open(sys.argv[1]), ImageSet.open(sys.argv[2])
num_epochs = int(sys.argv[4]) if len(sys.argv) > 4 else 100


class Student(lightning.LightningModule):
    """A network that learns the labels' targets as their temperature falls."""

    def __init__(self) -> None:
        super().__init__()
        self.network = build("convnet", images.num_classes)
        self.temperature = parse_schedule("20:2:step", num_epochs)

    def train_dataloader(self) -> DataLoader[LabelBatch]:
        """Batches of this process."""
        # Made here, where rank and device are known. Lightning calls the sampler's set_epoch before every epoch.
        data = ViewDataset(images, labels, self.device)
        ranks = {"rank": self.global_rank, "num_ranks": self.trainer.world_size}
        return DataLoader(data, sampler=ViewSampler(data, 100, **ranks), batch_size=None)

    def training_step(self, batch: LabelBatch) -> torch.Tensor:
        """Cross-entropy with the targets of the epoch's temperature."""
        log_predictions = (self.network(batch.views) / 2).log_softmax(1)
        return -(batch.targets(self.temperature(self.current_epoch)) * log_predictions).sum(1).mean()

    def configure_optimizers(self) -> dict[str, object]:
        """AdamW, its rate a cosine."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=2e-3)
        return {
            "optimizer": optimizer,
            "lr_scheduler": torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_epochs),
        }


torch.manual_seed(0)
student = Student()
trainer = lightning.Trainer(
    max_epochs=num_epochs,
    use_distributed_sampler=False,  # the sampler parts batches itself
    logger=False,
    enable_progress_bar=False,
    enable_checkpointing=False,
    enable_model_summary=False,
)
trainer.fit(student)

if trainer.is_global_zero:
    test = ImageSet.open(sys.argv[3], class_names=images.class_names)
    network = student.network.cpu().eval()
    with torch.inference_mode():
        correct = network(test.pixels / 255).argmax(1) == test.labels
    print(f"accuracy {correct.float().mean():.4f}")
