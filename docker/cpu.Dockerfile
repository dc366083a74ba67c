# syntax=docker/dockerfile:1
ARG PYTHON=3.12
FROM python:${PYTHON}-slim

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

# The torch that pip finds brings CUDA (6 GB) and runs on CPUs as well. For a small image give, as
# --build-arg TORCH=..., what PyTorch's own instructions put after `pip install` for CPUs.
ARG TORCH="torch torchvision"
RUN pip install ${TORCH}

# Dependencies first: this layer stays while only the source changes.
WORKDIR /opt/alseg
COPY pyproject.toml ./
RUN python -c "import tomllib; \
        project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
        extras = project['optional-dependencies']; \
        print(*project['dependencies'], *extras['label'], *extras['weights'], sep='\n')" \
        > requirements.txt \
    && sed -i 's/^faiss-gpu[^;]*\(.*\)$/faiss-cpu>=1.9/; /^faiss-cpu.*;/d' requirements.txt \
    && pip install -r requirements.txt \
    # albumentations pulls opencv-python-headless, which writes the same cv2 without ximgproc
    && (python -c "import cv2; cv2.ximgproc.createSuperpixelSEEDS" 2>/dev/null \
        || pip install --force-reinstall --no-deps opencv-contrib-python-headless) \
    && python -c "import cv2, faiss, torch; cv2.ximgproc.createSuperpixelSEEDS"

COPY README.md LICENSE ./
COPY alseg alseg
RUN pip install --no-deps .

# Any user may write here and has a name, so that docker run --user works; /cache keeps weights and
# region maps.
ENV HOME=/workspace USER=alseg XDG_CACHE_HOME=/cache
RUN useradd --no-create-home --home-dir /workspace --shell /bin/bash alseg \
    && install -d -o alseg -m 1777 /workspace /workspace/runs /cache
COPY experiments /workspace/experiments
USER alseg
WORKDIR /workspace
VOLUME ["/workspace/runs", "/cache"]

ENTRYPOINT ["python", "-m", "alseg.run"]
CMD ["--help"]
