"""Trains a detector on generated scenes in plain PyTorch, without resdet's trainer.

python examples/own_loop.py
"""

import torch
from torch.utils.data import DataLoader

import resdet

SHAPES = ("shapes_mask_r18_fpn.yaml", "data.train_images=40", "data.val_images=8")

if __name__ == "__main__":
    dataset = resdet.open_data(SHAPES[0], "train", *SHAPES[1:])
    model = resdet.build(SHAPES[0], f"model.num_classes={len(dataset.classes)}")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    loader = DataLoader(dataset, batch_size=4, shuffle=True, collate_fn=lambda samples: tuple(zip(*samples)))
    for step, (images, targets) in enumerate(loader):
        losses = model.losses(images, targets)
        loss = sum(losses.values())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10)
        optimizer.step()
        print(f"step {step}: " + "  ".join(f"{name} {value:.3f}" for name, value in losses.items()))
    print(model.eval().predict(dataset[0][0], score=0.1))
