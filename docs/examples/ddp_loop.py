"""One student trained by several processes in plain DDP.

Run as `torchrun --nproc-per-node 2 ddp_loop.py LABELS IMAGES EVAL [EPOCHS]`.
"""

import sys

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from lpqld import ImageSet, LabelSet, ViewDataset, ViewSampler
from lpqld.models import build
from lpqld.training import parse_schedule

dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
rank, num_ranks = dist.get_rank(), dist.get_world_size()
device = torch.device("cuda", rank % torch.cuda.device_count()) if torch.cuda.is_available() else torch.device("cpu")
labels, images = LabelSet.open(sys.argv[1]), ImageSet.open(sys.argv[2])
num_epochs = int(sys.argv[4]) if len(sys.argv) > 4 else 100

data = ViewDataset(images, labels, device)
sampler = ViewSampler(data, batch_size=100, rank=rank, num_ranks=num_ranks)
loader = DataLoader(data, sampler=sampler, batch_size=None)
temperature = parse_schedule("20:2:step", num_epochs)

torch.manual_seed(0)
network = DistributedDataParallel(build("convnet", images.num_classes).to(device))
optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_epochs)
for epoch in range(num_epochs):
    sampler.set_epoch(epoch)
    for batch in loader:
        log_predictions = (network(batch.views) / 2).log_softmax(1)
        loss = -(batch.targets(temperature(epoch)) * log_predictions).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    schedule.step()

if rank == 0:
    test = ImageSet.open(sys.argv[3], class_names=images.class_names)
    student = network.module.eval()
    with torch.inference_mode():
        correct = student(test.pixels.to(device) / 255).argmax(1).cpu() == test.labels
    print(f"accuracy {correct.float().mean():.4f}")
dist.destroy_process_group()
