full() { W=$(xdotool search --onlyvisible --name 'napari|VQ-Seg' | tail -1); xdotool windowmove $W 0 0 windowsize $W 1276 772; }
