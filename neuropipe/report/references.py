"""BibTeX entries that a report may name, by key."""

from __future__ import annotations

REFERENCES = {
    "li2024onehot": """@inproceedings{li2024onehot,
  title     = {One-hot Generalized Linear Model for Switching Brain State Discovery},
  author    = {Li, Chengrui and Kim, Soon Ho and Rodgers, Chris and Choi, Hannah and Wu, Anqi},
  booktitle = {International Conference on Learning Representations},
  year      = {2024},
  note      = {arXiv:2310.15263}
}""",
    "rubel2022nwb": """@article{rubel2022nwb,
  title   = {The Neurodata Without Borders ecosystem for neurophysiological data science},
  author  = {R{\\"u}bel, Oliver and Tritt, Andrew and Ly, Ryan and Dichter, Benjamin K. and
             Ghosh, Satrajit and Niu, Lawrence and Baker, Pamela and Soltesz, Ivan and Ng, Lydia
             and Svoboda, Karel and Frank, Loren and Bouchard, Kristofer E.},
  journal = {eLife},
  volume  = {11},
  pages   = {e78362},
  year    = {2022},
  doi     = {10.7554/eLife.78362}
}""",
    "gorgolewski2016bids": """@article{gorgolewski2016bids,
  title   = {The brain imaging data structure, a format for organizing and describing outputs of
             neuroimaging experiments},
  author  = {Gorgolewski, Krzysztof J. and others},
  journal = {Scientific Data},
  volume  = {3},
  pages   = {160044},
  year    = {2016},
  doi     = {10.1038/sdata.2016.44}
}""",
    "holdgraf2019ieegbids": """@article{holdgraf2019ieegbids,
  title   = {{iEEG-BIDS}, extending the Brain Imaging Data Structure specification to human
             intracranial electrophysiology},
  author  = {Holdgraf, Christopher and others},
  journal = {Scientific Data},
  volume  = {6},
  pages   = {102},
  year    = {2019},
  doi     = {10.1038/s41597-019-0105-7}
}""",
    "gramfort2013mne": """@article{gramfort2013mne,
  title   = {{MEG} and {EEG} data analysis with {MNE-Python}},
  author  = {Gramfort, Alexandre and others},
  journal = {Frontiers in Neuroscience},
  volume  = {7},
  pages   = {267},
  year    = {2013},
  doi     = {10.3389/fnins.2013.00267}
}""",
    "abraham2014nilearn": """@article{abraham2014nilearn,
  title   = {Machine learning for neuroimaging with scikit-learn},
  author  = {Abraham, Alexandre and others},
  journal = {Frontiers in Neuroinformatics},
  volume  = {8},
  pages   = {14},
  year    = {2014},
  doi     = {10.3389/fninf.2014.00014}
}""",
    "dyballa2024dynamic": """@inproceedings{dyballa2024dynamic,
  title     = {Learning dynamic representations of the functional connectome in neurobiological
               networks},
  author    = {Dyballa, Luciano and Lang, Samuel and Haslund-Gourley, Alexandra and
               Yemini, Eviatar and Zucker, Steven W.},
  booktitle = {International Conference on Learning Representations},
  year      = {2024},
  note      = {arXiv:2402.14102}
}""",
    "kossaifi2019tensorly": """@article{kossaifi2019tensorly,
  title   = {{TensorLy}: Tensor Learning in {Python}},
  author  = {Kossaifi, Jean and Panagakis, Yannis and Anandkumar, Anima and Pantic, Maja},
  journal = {Journal of Machine Learning Research},
  volume  = {20},
  number  = {26},
  pages   = {1--6},
  year    = {2019}
}""",
    "allen2014tracking": """@article{allen2014tracking,
  title   = {Tracking whole-brain connectivity dynamics in the resting state},
  author  = {Allen, Elena A. and Damaraju, Eswar and Plis, Sergey M. and Erhardt, Erik B. and
             Eichele, Tom and Calhoun, Vince D.},
  journal = {Cerebral Cortex},
  volume  = {24},
  number  = {3},
  pages   = {663--676},
  year    = {2014},
  doi     = {10.1093/cercor/bhs352}
}""",
    "benjamini1995fdr": """@article{benjamini1995fdr,
  title   = {Controlling the False Discovery Rate: A Practical and Powerful Approach to Multiple
             Testing},
  author  = {Benjamini, Yoav and Hochberg, Yosef},
  journal = {Journal of the Royal Statistical Society: Series B},
  volume  = {57},
  number  = {1},
  pages   = {289--300},
  year    = {1995},
  doi     = {10.1111/j.2517-6161.1995.tb02031.x}
}""",
    "gondur2024multimodal": """@inproceedings{gondur2024multimodal,
  title     = {Multi-modal {Gaussian} Process Variational Autoencoders for Neural and Behavioral
               Data},
  author    = {Gondur, Rabia and Sikandar, Usama Bin and Schaffer, Evan and Aoi, Mikio Christian
               and Keeley, Stephen L.},
  booktitle = {International Conference on Learning Representations},
  year      = {2024},
  note      = {arXiv:2310.03111}
}""",
    "yu2009gpfa": """@article{yu2009gpfa,
  title   = {{Gaussian}-Process Factor Analysis for Low-Dimensional Single-Trial Analysis of Neural
             Population Activity},
  author  = {Yu, Byron M. and Cunningham, John P. and Santhanam, Gopal and Ryu, Stephen I. and
             Shenoy, Krishna V. and Sahani, Maneesh},
  journal = {Journal of Neurophysiology},
  volume  = {102},
  number  = {1},
  pages   = {614--635},
  year    = {2009},
  doi     = {10.1152/jn.90941.2008}
}""",
    "pedregosa2011scikit": """@article{pedregosa2011scikit,
  title   = {Scikit-learn: Machine Learning in {Python}},
  author  = {Pedregosa, Fabian and others},
  journal = {Journal of Machine Learning Research},
  volume  = {12},
  pages   = {2825--2830},
  year    = {2011}
}""",
    "pei2021nlb": """@inproceedings{pei2021nlb,
  title     = {Neural Latents Benchmark '21: Evaluating latent variable models of neural population
               activity},
  author    = {Pei, Felix and Ye, Joel and Zoltowski, David and Wu, Anqi and Chowdhury, Raeed H.
               and others},
  booktitle = {Advances in Neural Information Processing Systems, Datasets and Benchmarks Track},
  year      = {2021},
  note      = {arXiv:2109.04463}
}""",
    "zheng2024duin": """@inproceedings{zheng2024duin,
  title     = {{Du-IN}: Discrete units-guided mask modeling for decoding speech from Intracranial
               Neural signals},
  author    = {Zheng, Hui and Wang, Hai-Teng and Jiang, Wei-Bang and Chen, Zhong-Tao and He, Li
               and Lin, Pei-Yang and Wei, Peng-Hu and Zhao, Guo-Guang and Liu, Yun-Zhe},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2024},
  note      = {arXiv:2405.11459}
}""",
    "lawhern2018eegnet": """@article{lawhern2018eegnet,
  title   = {{EEGNet}: a compact convolutional neural network for {EEG}-based brain-computer
             interfaces},
  author  = {Lawhern, Vernon J. and Solon, Amelia J. and Waytowich, Nicholas R. and Gordon,
             Stephen M. and Hung, Chou P. and Lance, Brent J.},
  journal = {Journal of Neural Engineering},
  volume  = {15},
  number  = {5},
  pages   = {056013},
  year    = {2018},
  doi     = {10.1088/1741-2552/aace8c}
}""",
    "song2023conformer": """@article{song2023conformer,
  title   = {{EEG Conformer}: Convolutional Transformer for {EEG} Decoding and Visualization},
  author  = {Song, Yonghao and Zheng, Qingqing and Liu, Bingchuan and Gao, Xiaorong},
  journal = {IEEE Transactions on Neural Systems and Rehabilitation Engineering},
  volume  = {31},
  pages   = {710--719},
  year    = {2023},
  doi     = {10.1109/TNSRE.2022.3230250}
}""",
    "antoniades2024neuroformer": """@inproceedings{antoniades2024neuroformer,
  title     = {Neuroformer: Multimodal and Multitask Generative Pretraining for Brain Data},
  author    = {Antoniades, Antonis and Yu, Yiyi and Canzano, Joseph and Wang, William and Smith,
               Spencer LaVere},
  booktitle = {International Conference on Learning Representations},
  year      = {2024},
  note      = {arXiv:2311.00136}
}""",
    "wang2024mindbridge": """@inproceedings{wang2024mindbridge,
  title     = {MindBridge: A Cross-Subject Brain Decoding Framework},
  author    = {Wang, Shizun and Liu, Songhua and Tan, Zhenxiong and Wang, Xinchao},
  booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year      = {2024}
}""",
    "chen2015srm": """@inproceedings{chen2015srm,
  title     = {A Reduced-Dimension {fMRI} Shared Response Model},
  author    = {Chen, Po-Hsuan and Chen, Janice and Yeshurun, Yaara and Hasson, Uri and
               Haxby, James and Ramadge, Peter J.},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2015}
}""",
    "haxby2011hyperalignment": """@article{haxby2011hyperalignment,
  title   = {A common, high-dimensional model of the representational space in human ventral
             temporal cortex},
  author  = {Haxby, James V. and Guntupalli, J. Swaroop and Connolly, Andrew C. and
             Halchenko, Yaroslav O. and Conroy, Bryan R. and Gobbini, M. Ida and Hanke, Michael and
             Ramadge, Peter J.},
  journal = {Neuron},
  volume  = {72},
  pages   = {404--416},
  year    = {2011},
  doi     = {10.1016/j.neuron.2011.08.026}
}""",
}
